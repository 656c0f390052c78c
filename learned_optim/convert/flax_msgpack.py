"""Reads arrays from flax's msgpack files, the format of the weights of google/learned_optimization and of Celo.

Such a file is one msgpack map with string keys (https://github.com/msgpack/msgpack/blob/master/spec.md). Tuples and
named tuples are maps too, with keys "0", "1", … or the names of the fields. An array is an extension of type 1, a NumPy
scalar one of type 3. Its payload is msgpack of shape, name of the dtype, and little-endian bytes in C order
(https://flax.readthedocs.io/en/latest/api_reference/flax.serialization.html).

Nothing in such a file is executed. Every declared size is compared with the bytes that are there before memory is
allocated.
"""

from collections.abc import Mapping
import math
import pathlib
from typing import Any

import numpy as np

from learned_optim.convert import signatures

MAX_BYTES = 1 << 30  # flax cuts arrays beyond this into pieces; the largest released optimizer has 9.3 MB
_MAX_ENTRIES = 4096  # of one map
_MAX_DIMENSIONS = 32
_DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint32", "uint64", "uint8", "bool")
_ARRAY, _SCALAR = 1, 3  # types of extensions
_EXPECTED = "expected the msgpack of a dict of arrays, as flax.serialization.to_bytes writes it"
_AGAIN = "download it again, as a binary file."


def read(path: pathlib.Path) -> dict[str, Any]:
    """Reads a file.

    Args:
      path: of a file that `flax.serialization.to_bytes` or `msgpack_serialize` made.

    Returns:
      Nested dicts with string keys. Leaves are NumPy arrays, and the Python strings and numbers in the file.

    Raises:
      ValueError: if the file is empty, larger than a gigabyte, truncated, or anything else than such a dict.
      ModuleNotFoundError: if the package msgpack is not installed.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"the file has {size:,} bytes, expected at most {MAX_BYTES:,}, a hundred times the largest learned "
            "optimizer that is known: name another file."
        )
    return decode(path.read_bytes())


def decode(data: bytes) -> dict[str, Any]:
    """Decodes the content of a file, as `read` does.

    Example:
      >>> decode(b"\\x81\\xa4step\\x07")
      {'step': 7}
    """
    msgpack = _msgpack()
    _check_signature(data)

    def extension(code, payload):
        return _array(msgpack, code, payload)

    try:
        return msgpack.unpackb(
            data,
            ext_hook=extension,
            object_pairs_hook=_dict,
            max_array_len=0,
            max_map_len=_MAX_ENTRIES,
            max_bin_len=0,
        )
    except msgpack.exceptions.ExtraData as error:
        raise ValueError(f"{_EXPECTED}, got one followed by {len(error.extra):,} further bytes: {_AGAIN}") from error
    except (msgpack.exceptions.UnpackException, ValueError) as error:
        what = str(error) or type(error).__name__
        raise ValueError(f"{_EXPECTED}, got a truncated, damaged or foreign file ({what}): {_AGAIN}") from error


def flatten(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names each array by its path, the keys joined by slashes.

    Raises:
      ValueError: if a leaf is not an array, or two have the same path.

    Example:
      >>> import numpy as np
      >>> list(flatten({"mlp/~/linear_0": {"w": np.ones(3)}}))
      ['mlp/~/linear_0/w']
    """
    arrays: dict[str, np.ndarray] = {}
    pending: list[tuple[str, Any]] = list(tree.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, Mapping):
            pending += [(f"{name}/{key}", below) for key, below in value.items()]
        elif not isinstance(value, np.ndarray):
            raise ValueError(f"expected arrays alone, got {value!r:.60} as {name!r:.60}: name a file of weights.")
        elif name in arrays:
            raise ValueError(f"two arrays are called {name!r:.60}: {_AGAIN}")
        else:
            arrays[name] = value
    return arrays


def _msgpack():
    try:
        import msgpack
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "flax's files are read with the package msgpack, which is not installed: pip install '.[convert]'"
        ) from error
    return msgpack


def _check_signature(data):
    signatures.check(data, _EXPECTED)
    if not (0x80 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF)):
        raise ValueError(f"{_EXPECTED}, got a file that begins with {data[:8]!r}: name a file of weights.")


def _dict(pairs):
    found = dict(pairs)
    if len(found) != len(pairs) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"a dict has a key twice, or one that is not a string, among {list(found)!r:.100}")
    return found


def _array(msgpack, code, payload):
    """The array in an extension."""
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"an extension of type {code}, where flax has arrays ({_ARRAY}) and NumPy scalars ({_SCALAR})")
    parts = msgpack.unpackb(payload, max_array_len=_MAX_DIMENSIONS, max_map_len=0, max_ext_len=0)
    if not isinstance(parts, list) or len(parts) != 3:
        raise ValueError(f"an array that is not shape, dtype and bytes, but {parts!r:.60}")
    shape, dtype, content = parts
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape!r:.60}")
    if dtype not in _DTYPES:
        raise ValueError(f"an array of dtype {dtype!r:.60}, where float32 is expected")
    little_endian = np.dtype(dtype).newbyteorder("<")
    if not isinstance(content, bytes) or len(content) != math.prod(shape) * little_endian.itemsize:
        raise ValueError(f"an array of shape {shape} and dtype {dtype} with another number of bytes")
    return np.frombuffer(content, little_endian).reshape(shape).astype(dtype)
