"""A pool of data sets in one array, of which each episode of a broad task draws one.

Every data set is brought to 64 inputs, so that one compiled program trains on all of them. Rows are sorted by data set
and class: the examples of some classes are drawn by arithmetic on indices, without a table of indices. What is needed
of an example at every step is computed once, here: rotated inputs, and random functions of the inputs as targets.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import os
from typing import NamedTuple

import numpy as np

from meta_train import data
from meta_train.data import Dataset
from meta_train.tasks import broad_sources
from meta_train.tasks.broad_sources import NUM_CLASSES
from meta_train.tasks.broad_sources import NUM_INPUTS
from meta_train.tasks.broad_sources import Examples
from meta_train.tasks.broad_sources import Part

PICTURE_SIZE = 8  # height and width, so that a gray picture has 64 inputs
NUM_FUNCTIONS = 24  # 8 linear ones, 8 shallow and 8 deep networks
EMBEDDED = ("digits", "diabetes")
"""The data sets of the default pool that are not generated. The evaluation tasks on them have perceptrons of widths
that no broad task of the suites draws."""


class Rows(NamedTuple):
    """Examples of all data sets, one after the other, and where each class begins. V counts data sets and copies."""

    x: np.ndarray  # float32[num, 64], inputs; those of a data set have mean 0 and mean square 1
    targets: np.ndarray  # float32[num, 25]: the number to predict, 0 if there is none, and random functions of x
    offset: np.ndarray  # int32[V, 10], the first row of each class
    count: np.ndarray  # int32[V, 10], rows of each class; 1 for classes that there are not


class Facts(NamedTuple):
    """What is known of each data set, or rotated copy of it, before an episode."""

    chance: np.ndarray  # float32[V], to be drawn
    num_classes: np.ndarray  # int32[V]; 1 if there are no labels
    num_inputs: np.ndarray  # int32[V]; inputs after these are 0
    has_value: np.ndarray  # bool[V], whether there is a number to predict
    moments: np.ndarray  # float32[V, 24, 24], mean products of the random functions on the training rows


class Pool(NamedTuple):
    """Data sets of one shape."""

    names: tuple[str, ...]
    train: Rows
    test: Rows
    facts: Facts


def pool(
    names: Sequence[str] = EMBEDDED, *, rotations: int = 2, data_dir: str | os.PathLike[str] | None = None
) -> Pool:
    """Collects data sets, and two generated ones: normally distributed inputs, and clusters that overlap.

    Pictures are reduced to 8×8 gray pixels. A table's number to predict also gives ten classes, its deciles.

    Args:
      names: data sets as for `data.load`: pictures, or tables of at most 64 columns; at most 10 classes each. Leave out
        what is meant for evaluation. Without any there are the generated ones alone.
      rotations: how many copies of each data set have randomly rotated inputs, beside the inputs as they are. A
        rotation mixes inputs, which matters to optimizers that treat coordinates one by one; which one matters little.
      data_dir: folder with data sets; see `data.load`.

    Returns:
      A `Pool`. Equal calls give the very same one.

    Raises:
      TypeError: if names is a single string.
      ValueError: if a data set is not known, or has too many classes or columns, or rotations is negative.
      FileNotFoundError: if data_dir is no folder.

    Example:
      >>> found = pool()
      >>> found.names
      ('digits', 'diabetes', 'gaussian', 'clusters')
      >>> found.train.x.shape[1]
      64
    """
    if isinstance(names, str):
        raise TypeError(f"names must be several names of data sets, got {names!r}: write ({names!r},).")
    if rotations < 0:
        raise ValueError(f"rotations is a number of copies of each data set, at least 0, got {rotations}.")
    return _pool(tuple(names), rotations, data_dir)


@functools.cache
def _pool(names: tuple[str, ...], rotations: int, data_dir: str | os.PathLike[str] | None) -> Pool:
    sets = {name: _load(name, data_dir) for name in names}
    sets |= {"gaussian": broad_sources.gaussian(), "clusters": broad_sources.clusters()}
    trains, tests, facts = [], [], []
    for name, examples in sets.items():
        copies = [examples, *(_rotated(examples, seed) for seed in range(0 if name == "gaussian" else rotations))]
        for seed, copy in enumerate(copies):
            functions = [_functions(part.x, seed) for part in (copy.train, copy.test)]
            std = functions[0].std(axis=0)
            mean = functions[0].mean(axis=0)
            train, test = ((each - mean) / std for each in functions)
            trains.append((copy.train, train))
            tests.append((copy.test, test))
            moments = train.T @ train / len(train)
            chance = 1 / (len(sets) * len(copies))
            facts.append((chance, copy.num_classes, copy.num_inputs, copy.has_value, moments))
    dtypes = (np.float32, np.int32, np.int32, np.bool_, np.float32)
    columns = (np.array(column, dtype) for column, dtype in zip(zip(*facts, strict=True), dtypes, strict=True))
    return Pool(tuple(sets), _stacked(trains), _stacked(tests), Facts(*columns))


def _load(name, data_dir):
    found = data.load(name, data_dir=data_dir)
    if not isinstance(found, Dataset):
        raise ValueError(f"a pool holds pictures and tables, got the text {name!r}: leave it out.")
    if found.train_x.ndim == 4:
        found = data.load(name, size=PICTURE_SIZE, gray=found.train_x.shape[-1] == 3, data_dir=data_dir)
        assert isinstance(found, Dataset)
    return broad_sources.standardized(name, found)


def _rotated(examples: Examples, seed: int) -> Examples:
    """The examples with their 64 inputs rotated. Few inputs spread over all, and keep their mean square of 1."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(NUM_INPUTS, NUM_INPUTS)))
    rotation *= (NUM_INPUTS / examples.num_inputs) ** 0.5
    train, test = (part._replace(x=part.x @ rotation) for part in (examples.train, examples.test))
    return examples._replace(train=train, test=test, num_inputs=NUM_INPUTS)


def _functions(x: np.ndarray, seed: int) -> np.ndarray:
    """Random functions of the inputs, float[num, 24]: 8 linear ones, 8 shallow and 8 deep networks."""
    rng = np.random.default_rng(seed)
    layer = lambda x, columns, scale: x @ rng.normal(size=(x.shape[1], columns)) * scale / x.shape[1] ** 0.5
    linear = layer(x, 8, 1.0)
    shallow = layer(np.tanh(layer(x, 32, 1.5)), 8, 1.0)
    deep = layer(np.maximum(layer(np.maximum(layer(x, 32, 1.0), 0.0), 32, 1.0), 0.0), 8, 1.0)
    return np.concatenate([linear, shallow, deep], axis=1)


def _stacked(parts: list[tuple[Part, np.ndarray]]) -> Rows:
    """The parts sorted by class and one after the other; rows of a class are in random order."""
    x, targets, offsets, counts, begin = [], [], [], [], 0
    for part, functions in parts:
        order = np.random.default_rng(0).permutation(len(part.x))
        order = order[np.argsort(part.label[order], kind="stable")]
        count = np.bincount(part.label, minlength=NUM_CLASSES)
        x.append(part.x[order])
        targets.append(np.concatenate([part.value[:, None], functions], axis=1)[order])
        offsets.append(np.where(count > 0, begin + np.cumsum(count) - count, begin))
        counts.append(np.maximum(count, 1))
        begin += len(order)
    return Rows(
        np.concatenate(x).astype(np.float32),
        np.concatenate(targets).astype(np.float32),
        np.array(offsets, np.int32),
        np.array(counts, np.int32),
    )
