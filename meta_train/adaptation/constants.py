"""The constants of `adaptive_muon` as coordinates of a search: what each changes, and how far to move it at first.

A coordinate moves one number of theta, or several together. Left out are numbers that change nothing in runs whose
length is told and always the same: those for runs of unknown length, the weights of features that stay constant, and
those that only repeat what another coordinate does.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from learned_optim.optimizers.adaptive_muon import TensorFeatures

KIND = "adaptive_muon"
NUM_MAIN = 8  # coordinates at the beginning of the list that matter on most models


class Coordinate(NamedTuple):
    """A direction in which theta can move."""

    name: str
    leaves: tuple[tuple[str, ...], ...]  # keys of the leaves of theta that it moves
    place: int | None  # index in each leaf; None for scalars
    move: float  # how far, as a first try


def _step(feature, move):
    return Coordinate(f"k_{feature}", (("step",),), TensorFeatures._fields.index(feature), move)


def _decay(feature, move):
    return Coordinate(f"q_{feature}", (("decay", "skip"),), TensorFeatures._fields.index(feature), move)


_TWICE = math.log(2.0)
_STEP_SIZE = "step_size"  # both initial step sizes together; a coordinate for the one of vectors follows
COORDINATES = (
    Coordinate(_STEP_SIZE, (("control", "first"),), None, _TWICE),
    Coordinate("weight_decay", (("decay", "base"),), None, math.log(3.0)),
    Coordinate("lookahead", (("lookahead",),), None, 0.6),
    _step("decay", 0.4),
    _step("position", 0.3),
    Coordinate("vector_step_size", (("control", "first"),), 1, _TWICE),
    Coordinate("gain", (("control", "gain"),), None, _TWICE),
    _step("certain", 0.2),
    Coordinate("bias", (("control", "bias"),), None, 0.2),
    Coordinate("onset", (("control", "onset"),), None, _TWICE),
    Coordinate("rise", (("control", "rates"),), 0, _TWICE),
    Coordinate("fall", (("control", "rates"),), 1, _TWICE),
    _step("early", 0.5),
    _step("size", 0.3),
    _step("signal", 0.3),
    _step("growth", 0.2),
    _step("expansion", 0.3),
    _step("squareness", 0.3),
    _step("blocks", 0.5),
    _decay("position", 0.7),
    _decay("decay", 0.7),
    _decay("size", 0.7),
    _decay("certain", 0.7),
    _decay("signal", 0.7),
    _decay("growth", 1.0),
    _decay("expansion", 1.0),
    _decay("squareness", 0.7),
    _decay("blocks", 0.7),
)


def moves(theta: Any) -> np.ndarray:
    """What one move along each coordinate adds to the numbers of theta: float64[coordinates, numbers].

    Args:
      theta: of `adaptive_muon`. The numbers are in the order of `jax.flatten_util.ravel_pytree`.

    Example:
      >>> import jax, learned_optim
      >>> found = moves(learned_optim.adaptive_muon().init(jax.random.key(0)))
      >>> found.shape, int(np.count_nonzero(found[0]))
      ((28, 38), 2)
    """
    flat, unravel = jax.flatten_util.ravel_pytree(theta)
    index = jax.tree.map(lambda x: np.asarray(x).astype(int), unravel(jnp.arange(flat.size, dtype=jnp.float32)))
    found = np.zeros((len(COORDINATES), flat.size))
    for row, coordinate in zip(found, COORDINATES, strict=True):
        for keys in coordinate.leaves:
            leaf = index
            for key in keys:
                leaf = leaf[key]
            row[leaf if coordinate.place is None else leaf[coordinate.place]] = coordinate.move
    return found


def names() -> tuple[str, ...]:
    """Names of the coordinates, the main ones first.

    Example:
      >>> names()[:3]
      ('step_size', 'weight_decay', 'lookahead')
    """
    return tuple(coordinate.name for coordinate in COORDINATES)
