"""The controller of a tensor's step size, written in NumPy in float64."""

import pathlib
import runpy
import types
from typing import Any
from typing import NamedTuple

import numpy as np

adam_parts = types.SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parent / "adam_parts.py")))


def sample(x):
    """At most 4,096 coordinates: of the axis with the most of them, every third one is kept, again and again."""
    kept = [np.arange(side) for side in x.shape]
    while np.prod([len(indices) for indices in kept], initial=1) > 4096:
        longest = int(np.argmax([len(indices) for indices in kept]))
        kept[longest] = kept[longest][::3]
    return (x[np.ix_(*kept)] if kept else x).ravel()


class State(NamedTuple):
    """The state of a tensor's controller."""

    x0: Any  # the sampled tensor before the first update
    first: float  # the initial D
    growth: float = 0.0  # log(D / initial D)
    r: float = 0.0
    z: Any = 0.0
    t: int = 0

    @property
    def distance(self):
        """D."""
        return self.first * np.exp(self.growth)


def begin(theta, param):
    """The state before the first update."""
    return State(sample(param), np.exp(theta["first"][int(param.ndim < 2)]) * adam_parts.size(param))


def advance(theta, state, grad, param):
    """The next state, and the signal."""
    g, beta = sample(grad), np.sqrt(0.999)
    weight = (1 - beta) * state.distance**2
    r = beta * state.r + weight * np.sum(g * (state.x0 - sample(param)))
    z = beta * state.z + weight * g
    norm, signal = np.sum(np.abs(z)), 0.0
    if norm > 0:
        signal = np.tanh(np.exp(theta["gain"]) * r / (norm * state.distance) + theta["bias"])
    rate = np.exp(theta["rates"][0 if signal > 0 else 1])
    growth = np.clip(state.growth + rate * signal / (state.t + np.exp(theta["onset"])), -12, 12)
    return state._replace(growth=growth, r=r, z=z, t=state.t + 1), signal
