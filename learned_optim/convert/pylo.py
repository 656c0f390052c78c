"""Reads PyLO's weights from the Hugging Face hub: a folder with `config.json` and `model.safetensors`.

PyLO is https://github.com/Belilovsky-Lab/pylo. Its networks are those of the JAX references under other names, and
most of their matrices are transposed. `read` gives the arrays the references' names and shapes, and changes no number.
VeLO comes in two folders, one with the recurrent network and one with the bank of networks.
"""

import json
import pathlib
import re

import numpy as np
import safetensors

from learned_optim.convert import signatures
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import listed
from learned_optim.convert.coordinate_network import GROUP_SIZES
from learned_optim.convert.coordinate_network import PREFIX

FILE = "model.safetensors"
VELO_FOLDERS = ("VeLO_RNN", "VeLO_MLP")
_RNN_LAYERS = {
    "mix_layer1": "linear",
    "mix_layer2": "linear_1",
    "final_mix_layer": "linear_2",
    "lstm.linear": "rnn/linear",
    "rnn_to_controls": "rnn_to_controls",
    "step_size": "step_size",
}
_REQUIRED = {"mix_layers": True, "activation": "relu"}  # settings of config.json that change what is computed


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an optimizer.

    Args:
      path: of one of its `model.safetensors`. The other part of VeLO is looked for beside its folder.

    Returns:
      float32 arrays by the names that the JAX reference gives them, such as `rnn_params/linear/w`. μLO and ELO have no
      decays.

    Raises:
      ValueError: if the file is not one of PyLO's, is damaged, or has arrays that are not float32.
      FileNotFoundError: if the other part of VeLO is missing.
    """
    arrays = _load(path)
    if "lstm.linear.weight" in arrays:
        return {**_velo_rnn(arrays), **_velo_mlp(_load(_beside(path, 1)))}
    if "input_weights_" in arrays:
        return {**_velo_rnn(_load(_beside(path, 0))), **_velo_mlp(arrays)}
    if "network.input.weight" in arrays:
        return _mlp(arrays)
    if "w0.0" in arrays:
        return _celo2(arrays)
    raise ValueError(
        f"expected one of PyLO's networks (VeLO_RNN, VeLO_MLP, mulo, elo, celo2, elo-celo2), got arrays named "
        f"{listed(arrays)}: see docs/other-weights.md for those that can be read."
    )


def is_safetensors(path: pathlib.Path) -> bool:
    """Returns whether a file begins like a safetensors file: with the size of a JSON object, and the object."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def child(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the path of an entry of a folder, in upper or lower case. If there is none, its path in this case."""
    exact = folder / name
    if exact.exists() or not folder.is_dir():
        return exact
    return next((entry for entry in sorted(folder.iterdir()) if entry.name.lower() == name.lower()), exact)


def _load(path):
    expected = "expected a safetensors file"
    if not is_safetensors(path):
        with path.open("rb") as file:
            signatures.check(file.read(32), expected)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            is_ours = "learned_optim" in (file.metadata() or {})
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dict)
            wrong = [f"{name[:60]!r} is {dtype}" for name, dtype in dtypes.items() if dtype != "F32"]
            arrays = {} if is_ours or wrong else {name: file.get_tensor(name) for name in dtypes}
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{expected}, got a truncated, damaged or foreign one ({error}): download {path} again."
        ) from error
    if is_ours:
        raise ValueError("it is a file of this library already: read it with learned_optim.load.")
    if wrong:
        raise ValueError(f"expected arrays in float32 (F32), but {wrong[0]}: save the weights as float32.")
    _check_config(path.with_name("config.json"))
    return arrays


def _check_config(path):
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON, got other text ({error}): download it again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must be a JSON object, got {config!r:.60}: download it again.")
    for name, expected in _REQUIRED.items():
        if config.get(name, expected) != expected:
            raise ValueError(
                f"{path} must have {name} {expected!r}, got {config[name]!r:.60}, which is not built here."
            )


def _beside(path, number):
    """The file of the other part of VeLO: of a folder of the known name, beside that of the path."""
    name = VELO_FOLDERS[number]
    for folder in (path.parent.parent, path.parent):
        file = child(child(folder, name), FILE)
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"VeLO of PyLO needs two folders, {' and '.join(VELO_FOLDERS)}, each with its {FILE}: {name} is missing beside "
        f"{path.parent}. Download Pauljanson002/{name} to {path.parent.parent / name}."
    )


def _transposed(array):
    return np.ascontiguousarray(np.swapaxes(array, -1, -2)) if array.ndim > 1 else array


def _velo_rnn(arrays: Arrays):
    found = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if layer in _RNN_LAYERS and kind in ("weight", "bias"):
            ours = "w" if kind == "weight" else "b"
            found[f"rnn_params/{_RNN_LAYERS[layer]}/{ours}"] = _transposed(array)
        elif name in ("lstm_init_state.0", "lstm_init_state.1"):
            found[f"lstm_init_state/{'hidden' if name.endswith('0') else 'cell'}"] = array
        else:
            found[name] = array
    return found


def _velo_mlp(arrays: Arrays):
    """Names without an underscore at the end, such as `input_weights`, are working copies of one network."""
    found, layers = {}, _number("hidden_weights_", arrays) + 1
    for name, array in arrays.items():
        if re.fullmatch(r"(input|hidden|output)_(weights|bias)(\.[0-9]{1,2})?", name):
            continue
        match = re.fullmatch(r"(input|hidden|output)_(weights|bias)_(?:\.([0-9]{1,2}))?", name)
        if match is None or (match[1] == "hidden") != (match[3] is not None):
            found[name] = array
            continue
        number = {"input": 0, "hidden": int(match[3] or 0) + 1, "output": layers}[match[1]]
        if match[2] == "bias":
            found[f"{PREFIX}b{number}"] = array
        elif match[1] != "input":
            found[f"{PREFIX}w{number}"] = _transposed(array)
        else:
            ends = np.cumsum(GROUP_SIZES)[:-1]
            groups = np.split(_transposed(array), ends, axis=-2) if array.ndim == 3 else [array]
            found |= {f"{PREFIX}w0__{i}": np.ascontiguousarray(group) for i, group in enumerate(groups)}
    return found


def _mlp(arrays: Arrays):
    found, layers = {}, _number("network.linear_", arrays) + 1
    for name, array in arrays.items():
        match = re.fullmatch(r"network\.(?:(input)|linear_([0-9]{1,2})|output)\.(weight|bias)", name)
        if match is None:
            found[name] = array
            continue
        number = 0 if match[1] else layers if match[2] is None else int(match[2]) + 1
        found[f"nn/~/{'w' if match[3] == 'weight' else 'b'}{number}"] = _transposed(array)
    return found


def _celo2(arrays: Arrays):
    """These matrices are not transposed."""
    found = {}
    for name, array in arrays.items():
        first, later = re.fullmatch(r"w0\.([0-9]{1,2})", name), re.fullmatch(r"dense_([wb])\.([0-9]{1,2})", name)
        if first:
            found[f"{PREFIX}w0__{first[1]}"] = array
        elif later:
            found[f"{PREFIX}{later[1]}{int(later[2]) + 1}"] = array
        else:
            found[PREFIX + name] = array
    return found


def _number(prefix, arrays):
    """How many layers have names that begin so."""
    return len({match[1] for name in arrays if (match := re.match(re.escape(prefix) + r"\.?([0-9]{1,2})\b", name))})
