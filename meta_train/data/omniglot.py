"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Lake, Salakhutdinov, Tenenbaum 2015, "Human-level concept learning through probabilistic program induction",
https://www.science.org/doi/10.1126/science.aab3050; its files are at https://github.com/brendenlake/omniglot

From a folder of data sets, the archives are read as they are, without unpacking them:

    omniglot/images_background.zip, images_evaluation.zip             30 alphabets to learn from, 20 held out
    omniglot_small/images_background_small1.zip, …_small2.zip         8 alphabets in two archives of five

The two small archives both have Greek and Latin; each character is taken once. Of the 8 alphabets, the two smallest
are held out, Early Aramaic and Tagalog with 39 characters; Balinese, Greek, Japanese (katakana), Korean, Latin and
Sanskrit, with 203 characters, are to learn from.
"""

import functools
import os
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np

from meta_train.data import data_folder
from meta_train.data import missing as data_missing
from meta_train.data import picture_tree
from meta_train.data import pictures as data_pictures
from meta_train.data import tfds
from meta_train.data.picture_classes import ClassSplit
from meta_train.data.picture_classes import PictureClasses
from meta_train.data.picture_classes import by_class

SMALL_HELD_OUT = ("Early_Aramaic", "Tagalog")  # alphabets
_WHOLE = ("images_background.zip", "images_evaluation.zip")
_SMALL = ("images_background_small1.zip", "images_background_small2.zip")
_PICTURE = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/([^/.]+\.png)")
_CHUNK = 512  # pictures reduced at a time


def omniglot(*, data_dir: str | os.PathLike[str] | None = None, size: int = 28) -> ClassSplit:
    """Loads Omniglot, from files in a folder or else by tensorflow-datasets, split by alphabet.

    Args:
      data_dir: folder of data sets; by default what LEARNED_OPTIM_DATA names. It may have `omniglot`, or
        `omniglot_small`, or be one of these.
      size: height and width to which the pictures of 105×105 pixels are reduced, by averaging areas.

    Returns:
      A `ClassSplit` of uint8 pictures with one channel, 255 for ink, named "omniglot" or "omniglot-small". A class's
      name is ALPHABET/CHARACTER. The arrays cannot be written to.

    Raises:
      FileNotFoundError: if it is not at hand, one of two archives is missing, or the folder does not exist.
      ValueError: if an archive or a picture in it is damaged, or size is out of range.
      ModuleNotFoundError: if Pillow is not installed.
    """
    if not 1 <= size <= 105:
        raise ValueError(f"size must lie in 1…105, the pixels that the drawings have, got {size}.")
    folder = data_folder.chosen(data_dir)
    found = _find(folder) if folder else None
    if found is not None:
        return _read(*found, size)
    try:
        split = _from_tfds(size)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}\n{_ways(folder)}") from error
    if split is None:
        raise FileNotFoundError(f"Omniglot is not at hand.\n{_ways(folder)}")
    return split


class _Found(NamedTuple):
    """The two archives."""

    paths: tuple[Path, Path]
    small: bool


def _find(folder):
    """The archives in a folder of data sets, or None if there are none."""
    for names, subfolder in ((_WHOLE, "omniglot"), (_SMALL, "omniglot_small")):
        for place in (folder / subfolder, folder):
            paths = [place / name for name in names]
            there = [path for path in paths if path.is_file()]
            if len(there) == 1:
                (lacking,) = {*paths} - {*there}
                raise FileNotFoundError(f"{there[0]} needs {lacking.name} beside it, which is not there: fetch it.")
            if there:
                return _Found((paths[0], paths[1]), names is _SMALL)
    return None


@functools.cache
def _read(paths, small, size):
    drawings = [_drawings(path, size) for path in paths]
    if small:
        both = {**drawings[0], **drawings[1]}  # what is in both archives, once
        held_out = lambda key: key[0] in SMALL_HELD_OUT
        drawings = [{key: x for key, x in both.items() if held_out(key) == part} for part in (False, True)]
        for part, expected in zip(drawings, ("others", " or ".join(SMALL_HELD_OUT)), strict=True):
            if not part:
                raise ValueError(f"{paths[0]} and {paths[1].name} have no alphabets {expected}: fetch them again.")
    parts = (by_class(np.stack([*part.values()]), [f"{key[0]}/{key[1]}" for key in part]) for part in drawings)
    return _read_only(ClassSplit("omniglot-small" if small else "omniglot", *parts))


def _drawings(path, size):
    """(alphabet, character, file) -> uint8[size, size, 1], sorted."""
    keys, images = [], []
    for name, content in picture_tree.files(path):
        match = _PICTURE.fullmatch(name)
        if match:
            keys.append(match.groups())
            images.append(picture_tree.decode(f"{path}: {name}", content))
    if not keys:
        raise ValueError(f"{path}: expected pictures ALPHABET/characterNN/*.png, got none. Fetch it again.")
    shapes = {image.shape for image in images}
    if shapes != {(105, 105)}:
        raise ValueError(f"{path}: expected black-and-white drawings of 105×105 pixels, got {sorted(shapes)}.")
    chunks = [images[begin : begin + _CHUNK] for begin in range(0, len(images), _CHUNK)]
    reduced = np.concatenate([_ink(np.stack(chunk), size) for chunk in chunks])
    return dict(sorted(zip(keys, reduced, strict=True)))


def _ink(images, size):
    """uint8[num, 105, 105], black on white -> uint8[num, size, size, 1], 255 for ink."""
    return np.round(255 * data_pictures.prepare(255 - images, size=size)).astype(np.uint8)


def _from_tfds(size):
    """The data set of tensorflow-datasets: its splits `train` and `test` share no alphabet."""

    def convert(info, examples):
        alphabet = info.features["alphabet"]
        arrays = {}
        for part in ("train", "test"):
            pictures, names = [], []
            for example in examples[part]:
                pictures.append(_ink(example["image"][None, :, :, 0], size)[0])
                character = int(example["alphabet_char_id"]) + 1
                names.append(f"{alphabet.int2str(int(example['alphabet']))}/character{character:02}")
            classes = by_class(np.stack(pictures), names)
            arrays |= {f"{part}_{field}": value for field, value in classes._asdict().items()}
        return arrays

    arrays = tfds.read_examples("omniglot", f"omniglot_{size}x{size}", convert)
    if arrays is None:
        return None
    pick = lambda part: (arrays[f"{part}_pictures"], arrays[f"{part}_counts"], tuple(map(str, arrays[f"{part}_names"])))
    return _read_only(ClassSplit("omniglot", PictureClasses(*pick("train")), PictureClasses(*pick("test"))))


def _read_only(split):
    for classes in (split.train, split.test):
        classes.pictures.flags.writeable = classes.counts.flags.writeable = False
    return split


def _ways(folder):
    """The ways to get it, a line each."""
    place = f"{folder}" if folder else "a folder"
    lines = [
        f"- Put {_WHOLE[0]} and {_WHOLE[1]} into omniglot/, or {_SMALL[0]} and {_SMALL[1]} into omniglot_small/, in "
        f"{place}, named by --data-dir, data_dir= or {data_folder.DATA_DIR_VARIABLE}. They are in "
        "https://github.com/brendenlake/omniglot, folder python.",
        "- tensorflow-datasets downloads it, with a network and TensorFlow: pip install tensorflow."
        if tfds.installed()
        else f"- tensorflow-datasets downloads it, but is not installed: {data_missing.INSTALL_TFDS}.",
        "- Or do without: data.digit_classes() needs no files.",
    ]
    return "\n".join(lines)
