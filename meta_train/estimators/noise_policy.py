"""When antithetic pairs draw new perturbations: a `NoisePolicy` each for PES, NRES and GPES.

Each builder makes the policy of one estimator. Perturbations change at the beginning of windows and of episodes only.
"""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from meta_train.unroll.perturbations import perturbation


class FirstNoise(NamedTuple):
    """What a policy gives a pair for its first episode."""

    state_key: jax.Array  # for the problem's first state
    clock_key: jax.Array  # for the worker's clock
    accumulator: Any  # like theta, sum of the perturbations so far
    noise: Any  # like theta, the perturbation in use; () if the policy keeps none of its own


class FirstNoiseFn(Protocol):
    """Draws a pair's first perturbation."""

    def __call__(self, key: jax.Array, theta: Any, /) -> FirstNoise:
        """Draws it.

        Args:
          key: random key of the pair, which also gives the two keys that are returned.
          theta: meta-parameters, for structure and shapes.
        """
        ...


class WindowNoiseFn(Protocol):
    """Chooses the perturbation of a window."""

    def __call__(self, step: jax.Array, accumulator: Any, noise: Any, drawn: Any, /) -> tuple[Any, Any]:
        """Chooses it.

        Args:
          step: int32[], steps made since the episode began.
          accumulator: the pair's accumulator.
          noise: the perturbation that the pair keeps, `FirstNoise.noise` at first.
          drawn: like theta, a fresh perturbation.

        Returns:
          `(noise, renewed)`: the perturbation at the window's start, and whether it is the one just drawn, a bool or
          bool[].
        """
        ...


class MapFn(Protocol):
    """Maps one pytree to another."""

    def __call__(self, tree: Any, /) -> Any:
        """Maps it."""
        ...


class ThetasFn(Protocol):
    """Gives the two thetas that a step runs under."""

    def __call__(self, thetas: Any, carried: Any, /) -> Any:
        """Gives them.

        Args:
          thetas: leaves [2, …], those at the window's start.
          carried: what the policy's `carry` made of them, or of those of the next episode once it has begun.

        Returns:
          Leaves [2, …].
        """
        ...


class NoisePolicy(NamedTuple):
    """When pairs draw new perturbations.

    Fields:
      first: `(key, theta) -> FirstNoise`.
      at_window: `(step, accumulator, noise, drawn) -> (noise, renewed)`.
      keep: `(noise) -> noise`. What of the perturbation in use the pair's state keeps; () if it can be had otherwise.
      carry: `(thetas) -> carried`. What travels with the states through a window, to change where an episode ends; ()
        if the thetas cannot change there.
      in_use: `(thetas, carried) -> thetas`. The two thetas of a step.
    """

    first: FirstNoiseFn
    at_window: WindowNoiseFn
    keep: MapFn
    carry: MapFn
    in_use: ThetasFn


def every_window() -> NoisePolicy:
    """PES: a perturbation for every window. An episode that begins inside of a window begins under the same one."""

    def first(key, theta):
        # It needs no perturbation yet, as the first window brings one.
        state_key, clock_key = jax.random.split(key, 2)
        return FirstNoise(state_key, clock_key, optax.tree.zeros_like(theta), ())

    return NoisePolicy(
        first,
        at_window=lambda step, accumulator, noise, drawn: (drawn, True),
        keep=_nothing,
        carry=_nothing,
        in_use=lambda thetas, carried: thetas,
    )


def whole_episode(std: float) -> NoisePolicy:
    """NRES: a perturbation of standard deviation std for every episode. It is the accumulator at the same time."""

    def first(key, theta):
        state_key, clock_key, noise_key = jax.random.split(key, 3)
        return FirstNoise(state_key, clock_key, perturbation(noise_key, theta, std), ())

    return NoisePolicy(
        first,
        at_window=lambda step, accumulator, noise, drawn: (accumulator, False),
        keep=_nothing,
        carry=_itself,
        in_use=lambda thetas, carried: carried,
    )


def several_windows(std: float, noise_period: int, unroll_length: int) -> NoisePolicy:
    """GPES: a perturbation of standard deviation std for noise_period inner steps, a multiple of unroll_length.

    None lasts longer. If an episode began inside of a window, the window's steps before it count for the first one.
    """

    def first(key, theta):
        state_key, clock_key, noise_key = jax.random.split(key, 3)
        noise = perturbation(noise_key, theta, std)
        return FirstNoise(state_key, clock_key, noise, noise)

    def at_window(step, accumulator, noise, drawn):
        del accumulator
        last = step - 1
        renewed = (last + unroll_length) // noise_period != jnp.maximum(last, 0) // noise_period
        return jax.tree.map(lambda new, old: jnp.where(renewed, new, old), drawn, noise), renewed

    return NoisePolicy(first, at_window, keep=_itself, carry=_itself, in_use=lambda thetas, carried: carried)


def _nothing(tree):
    del tree
    return ()


def _itself(tree):
    return tree
