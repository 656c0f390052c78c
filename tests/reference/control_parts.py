"""The sample of a tensor and the controller of its step size, written in NumPy in float64."""

from typing import Any
from typing import NamedTuple

import numpy as np


def sample(x):
    """At most 2,048 coordinates: of the axis with the most of them, every third one is kept, again and again."""
    kept = [np.arange(side) for side in x.shape]
    while np.prod([len(indices) for indices in kept], initial=1) > 2048:
        longest = int(np.argmax([len(indices) for indices in kept]))
        kept[longest] = kept[longest][::3]
    return (x[np.ix_(*kept)] if kept else x).ravel()


class State(NamedTuple):
    """The state of a tensor's controller."""

    x0: Any  # the sample of the tensor before the first update
    first: float  # the initial D
    growth: float = 0.0  # log(D / initial D)
    r: float = 0.0
    z: Any = 0.0
    t: int = 0

    @property
    def distance(self):
        """D."""
        return self.first * np.exp(self.growth)


def begin(theta, x0, size, is_vector):
    """The state before the first update of a tensor of which x0 is the sample."""
    return State(x0, np.exp(theta["first"][int(is_vector)]) * size)


def advance(theta, state, g, x):
    """The next state, and the signal, from samples of the gradient and of the tensor."""
    beta = np.sqrt(0.999)
    weight = (1 - beta) * state.distance**2
    r = beta * state.r + weight * np.sum(g * (state.x0 - x))
    z = beta * state.z + weight * g
    norm, signal = np.sum(np.abs(z)), 0.0
    if norm > 0:
        signal = np.tanh(np.exp(theta["gain"]) * r / (norm * state.distance) + theta["bias"])
    rate = np.exp(theta["rates"][0 if signal > 0 else 1])
    growth = np.clip(state.growth + rate * signal / (state.t + np.exp(theta["onset"])), -12, 12)
    return state._replace(growth=growth, r=r, z=z, t=state.t + 1), signal
