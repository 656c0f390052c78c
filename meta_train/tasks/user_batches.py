"""Batches of a user's data: from his iterator, kept in memory; or drawn from his arrays."""

from collections.abc import Callable
from collections.abc import Iterable
import itertools
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks.minibatches import MOST_HELD_OUT as MOST_HELD_OUT
from meta_train.tasks.user_checks import RuleError
from meta_train.tasks.user_checks import place


class BatchesFn(Protocol):
    """Gives the batches of one pass over the data, or batches without an end."""

    def __call__(self, key: jax.Array, /) -> Iterable[Any]:
        """Begins a pass.

        Args:
          key: random key, which may shuffle the data. Every pass has another one.

        Returns:
          An iterator of batches, pytrees of arrays (NumPy's or JAX's) that all have the same shapes.
        """
        ...


class TakeFn(Protocol):
    """Draws a batch."""

    def __call__(self, key: jax.Array, arrays: Any, /) -> Any:
        """Draws it, with replacement.

        Args:
          key: random key.
          arrays: `Source.arrays`.
        """
        ...


class Source(NamedTuple):
    """What to train on.

    Fields:
      arrays: pytree of NumPy arrays.
      take: `(key, arrays) -> batch`.
      suspect: None, or if numbers in the arrays are not finite, a pair: what to call the first batch with such numbers,
        and that batch.
    """

    arrays: Any
    take: TakeFn
    suspect: tuple[str, Any] | None


def as_arrays(batch: Any, what: str) -> Any:
    """A batch as NumPy arrays, with the dtypes that JAX gives them: float32 for float64, and so on.

    Args:
      batch: pytree of arrays, or of what NumPy makes arrays of.
      what: what to call it in errors.

    Raises:
      RuleError: if it has no arrays, or other ones than of numbers.
    """
    arrays = jax.tree.map(np.asarray, batch)
    for path, leaf in jax.tree.leaves_with_path(arrays):
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
            raise RuleError(
                f"{what} must be a pytree of arrays of numbers, got the dtype {leaf.dtype}{place(path)}. "
                "Turn it into numbers, or leave it out."
            )
    if not jax.tree.leaves(arrays):
        raise RuleError(f"{what} must be a pytree of arrays, got {batch!r}, which has none.")
    return jax.tree.map(lambda x: x.astype(jax.dtypes.canonicalize_dtype(x.dtype)), arrays)


def collect(
    batches: BatchesFn,
    key: jax.Array,
    *,
    num_batches: int,
    max_bytes: int,
    check: Callable[[Any], Any] = lambda batch: None,
) -> Source:
    """Keeps batches of one pass, or of as many as it takes.

    Args:
      batches: the user's function.
      key: random key, from which each pass gets its own.
      num_batches: how many to keep at most.
      max_bytes: how much memory they take at most; one batch is always kept.
      check: called with the first batch before the others are read, which may take long.

    Returns:
      The batches as arrays with a leading axis that counts them. If a new pass begins with the same batch as the first
      one, they are those of the first pass.

    Raises:
      RuleError: if there is no batch, their shapes differ, or a second pass has none.
    """
    if num_batches < 1:
        raise RuleError(f"num_batches must be at least 1, got {num_batches}.")
    kept, most = [], num_batches
    for number in itertools.count():
        new = 0
        for batch in _begun(batches, jax.random.fold_in(key, number)):
            found = as_arrays(batch, f"batch {len(kept) + 1} of batches(key)")
            if kept:
                _check_like(found, kept[0], f"batch {len(kept) + 1}")
            else:
                check(found)
                most = max(1, min(num_batches, max_bytes // max(1, _num_bytes(found))))
            if number > 0 and new == 0 and _equal(found, kept[0]):
                return _pool(kept)
            kept.append(found)
            new += 1
            if len(kept) == most:
                return _pool(kept)
        if new == 0:
            raise RuleError(_ended(len(kept)))
    raise AssertionError  # the loop above has no end


def first(batches: BatchesFn, key: jax.Array) -> Any:
    """The first batch of a pass.

    Raises:
      RuleError: if it has none.
    """
    for batch in _begun(batches, key):
        return as_arrays(batch, "a batch of batches(key)")
    raise RuleError(_ended(1))


def examples(data: Any, batch_size: int | None) -> Source:
    """Arrays to draw batches from.

    Args:
      data: pytree of arrays whose first axis counts the examples.
      batch_size: examples in a batch.

    Raises:
      RuleError: if the first axes differ, or batch_size is no positive integer.
    """
    arrays = as_arrays(data, "data")
    lengths = {f"data{jax.tree_util.keystr(path)}": x.shape[:1] for path, x in jax.tree.leaves_with_path(arrays)}
    if len(set(lengths.values())) > 1 or () in lengths.values() or (0,) in lengths.values():
        shown = ", ".join(f"{name} has {length[0] if length else 'no axis'}" for name, length in lengths.items())
        raise RuleError(
            f"the first axis of all arrays of data must count the same examples, at least one, but {shown}."
        )
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise RuleError(
            "with data, batch_size must be a positive integer, the number of examples that each step draws, "
            f"got {batch_size}."
        )
    (num_examples,) = next(iter(lengths.values()))

    def take(key, arrays):
        rows = jax.random.randint(key, (batch_size,), 0, num_examples)
        return jax.tree.map(lambda x: x[rows], arrays)

    bad = _not_finite(arrays)
    suspect = None if bad is None else (f"example {bad} of data", jax.tree.map(lambda x: x[[bad] * batch_size], arrays))
    return Source(arrays, take, suspect)


def _begun(batches, key):
    found = batches(key)
    try:
        return iter(found)
    except TypeError:
        raise RuleError(
            f"batches(key) must return an iterator of batches, got {type(found).__name__}. "
            "Use `yield`, or return a list."
        ) from None


def _check_like(batch, other, what):
    if jax.tree.structure(batch) != jax.tree.structure(other):
        raise RuleError(
            "all batches must have the same structure, "
            f"but {what} is {jax.tree.structure(batch)} and the first one {jax.tree.structure(other)}."
        )
    for (path, leaf), like in zip(jax.tree.leaves_with_path(batch), jax.tree.leaves(other), strict=True):
        if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
            raise RuleError(
                f"all batches must have the same shapes and dtypes, but {what} has {_shown(leaf)}{place(path)} and the "
                f"first one {_shown(like)}. If it is the last of a pass, with fewer examples: leave it out."
            )


def _equal(batch, other):
    same = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=np.issubdtype(x.dtype, np.inexact)), batch, other)
    return jax.tree.all(same)


def _pool(batches):
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    def take(key, arrays):
        row = jax.random.randint(key, (), 0, len(batches))
        return jax.tree.map(lambda x: x[row], arrays)

    bad = _not_finite(arrays)
    return Source(arrays, take, None if bad is None else (f"batch {bad + 1} of batches(key)", batches[bad]))


def _not_finite(arrays):
    """Index along the first axis of the first numbers that are not finite; None if all are."""
    found = []
    for leaf in jax.tree.leaves(arrays):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite = np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
            found += [int(np.argmin(finite))] if not finite.all() else []
    return min(found, default=None)


def _num_bytes(batch):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(batch))


def _ended(number):
    if number == 0:
        return "batches(key) must give at least one batch, and ended at once. Is a file or folder empty?"
    return (
        "batches(key) must begin a new pass over the data at every call, and ended at once when it was called again. "
        "Make the iterator in the function, as by `yield`, rather than once outside of it."
    )


def _shown(leaf):
    return f"{leaf.dtype}{list(leaf.shape)}"
