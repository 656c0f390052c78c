"""Pictures as files, a folder for each class: in a folder, or packed in a .tar, .tar.gz, .tar.xz or .zip.

    train/CLASS/*.png, *.jpg or *.jpeg     to train on
    test/CLASS/*.png, *.jpg or *.jpeg      held out

In an archive, `train` and `test` may be inside other folders. Files of other kinds and hidden files are ignored.
"""

import collections
from collections.abc import Iterator
import functools
import io
import lzma
import os
from pathlib import Path
import re
import tarfile
from typing import NamedTuple
import zipfile
import zlib

import numpy as np

from meta_train.data.parts import Parts
from meta_train.host import extra

SUFFIXES = (".tar", ".tar.gz", ".tar.xz", ".zip")  # of archives

_PICTURE = re.compile(r"(?:.*/)?(train|test)/([^/]+)/([^/.][^/]*\.(?i:png|jpe?g))")
_ARCHIVE_ERRORS = (EOFError, OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def is_tree(folder: Path) -> bool:
    """Whether the folder has pictures of a class to train on."""
    return any(_PICTURE.fullmatch(path.relative_to(folder).as_posix()) for path in folder.glob("train/*/*"))


@functools.lru_cache(maxsize=1)  # tasks want the same pictures in several sizes, and 60,000 take a quarter of a minute
def read(path: Path) -> Parts:
    """Reads the pictures and labels them by the names of their folders.

    The classes take turns: the first picture of each, by name, then the second of each, and so on. So any beginning of
    a part is balanced if the part is. Pictures are gray if all are, and in color otherwise.

    Args:
      path: a folder or an archive.

    Raises:
      ValueError: if there are no pictures in one of the parts, one of them or the archive is damaged, or sizes differ.
      ModuleNotFoundError: if Pillow is not installed.
    """
    parts = {"train": [], "test": []}
    for name, content in files(path):
        match = _PICTURE.fullmatch(name)
        if match:
            picture = decode(f"{path}: {name}", content)
            parts[match[1]].append(_Picture(match[2], match[3], picture))
    for part, pictures in parts.items():
        if not pictures:
            raise ValueError(f"{path}: expected pictures {part}/CLASS/*.png or *.jpg, a folder a class, got none.")
    in_color = any(picture.pixels.ndim == 3 for pictures in parts.values() for picture in pictures)
    size = parts["train"][0].pixels.shape[:2]
    return Parts(*(array for pictures in parts.values() for array in _stack(path, pictures, size, in_color)))


class _Picture(NamedTuple):
    label: str
    name: str
    pixels: np.ndarray  # uint8[height, width] or uint8[height, width, 3]


def _stack(path, pictures, size, in_color):
    """Pictures of one part -> their pixels and labels, the classes in turn."""
    ranked, counts = [], collections.Counter()
    for picture in sorted(pictures, key=lambda picture: picture[:2]):
        if picture.pixels.shape[:2] != size:
            raise ValueError(
                f"{path}: pictures must be of one size, got {size[0]}×{size[1]} pixels and "
                f"{'×'.join(map(str, picture.pixels.shape[:2]))} of {picture.label}/{picture.name}. Resize them."
            )
        ranked.append((counts[picture.label], picture))
        counts[picture.label] += 1
    ranked.sort(key=lambda pair: (pair[0], pair[1].label))
    x = np.empty((len(ranked), *size, 3) if in_color else (len(ranked), *size), np.uint8)
    for row, (_, picture) in zip(x, ranked, strict=True):
        row[...] = picture.pixels[..., None] if in_color and picture.pixels.ndim == 2 else picture.pixels
    return x, np.array([picture.label for _, picture in ranked])


def decode(where: str, content: bytes) -> np.ndarray:
    """The content of a picture file -> its pixels, uint8[height, width] or uint8[height, width, 3].

    Raises:
      ValueError: if it is damaged or no picture; the message begins with `where`.
      ModuleNotFoundError: if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(extra.advice(["pillow"]), name=error.name) from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError("expected 8 bits a channel")
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Exception as error:  # damaged pictures lead to errors of many types
        raise ValueError(f"{where} cannot be read as a picture ({error}).") from error


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names, relative to the folder or archive, and contents of its files.

    Raises:
      ValueError: if the archive is cut short or damaged.
    """
    if os.path.isdir(path):
        for part in ("train", "test"):
            for file in sorted(path.glob(f"{part}/*/*")):
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        yield from _unzipped(path) if path.suffix == ".zip" else _untarred(path)
    except _ARCHIVE_ERRORS as error:
        raise ValueError(f"{path}: the archive is cut short or damaged ({error}). Fetch it again.") from error


def _unzipped(path):
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, archive.read(info)


def _untarred(path):
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()
