"""RNNprop: a recurrent network, shared by all coordinates, sees gradients and momenta divided by √v as in Adam.

Lv, Jiang, Li 2017, "Learning Gradient Descent: Better Generalization and Longer Horizons",
https://arxiv.org/abs/1703.03578

Sizes, decays (.95), epsilon, the order of the inputs and the ELU layer before the LSTM are those of the authors'
released code, whose equations give the same updates. Deviations:
- Gradients are clipped to ±1e15, and v̂ is at least 1e-36, so that values and derivatives stay finite in float32.
- Initial weights have a scale of 1 / √inputs, as everywhere in this library (released code: 0.1).
- The version of the Open-L2O benchmark has its two inputs in the other order and a smaller output. For its weights,
  swap the two rows of theta["inputs"]["w"] and pass `output_scale=0.01`.
- The paper's random scaling of parameters and its added convex functions are part of meta-training, not of this file.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import coordinate_lstm
from learned_optim import features
from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import per_tensor
from learned_optim.base import zeros

FEATURE_VERSION = 1
EPSILON = 1e-8
_MIN_MOMENT = 1e-36


class Slots(NamedTuple):
    """State of a coordinate."""

    first: Any  # m, moving average of the gradient, decay b1
    second: Any  # v, moving average of the squared gradient, decay b2
    lstm: tuple[networks.LSTMState, ...]  # one for each layer, of arrays of shape [..., hidden_size]


def rnnprop(
    hidden_size: int = 20, num_layers: int = 2, *, output_scale: float = 0.1, b1: float = 0.95, b2: float = 0.95
) -> LearnedOptimizer:
    r"""Builds the RNNprop optimizer.

    .. math::
      \Delta p_t = -0.1 \tanh(o_t), \qquad (o_t, h_{t+1}) = \mathrm{LSTM}(\mathrm{elu}(W x_t + b), h_t), \qquad
      x_t = \frac{(g_t, \hat m_t)}{\sqrt{\hat v_t} + 10^{-8}}

    m̂ and v̂ are Adam's bias-corrected moments, with decays b1 and b2.

    Args:
      hidden_size: units in each LSTM layer, and in the layer before them.
      num_layers: number of LSTM layers.
      output_scale: the largest step, in units of the parameters.
      b1: decay of the average of gradients.
      b2: decay of the average of squared gradients.

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted and not used. State: `2 + 2 * num_layers * hidden_size` float32
      numbers for each coordinate (82 at the default sizes) and a step counter. Updates do not depend on the scale of
      the gradients between 1e-6 and 1e14.

    Raises:
      ValueError: if a size is below 1, or a decay not in [0, 1).
      TypeError: if a size is not a whole number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = rnnprop()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = jnp.ones(3)
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> bool(jnp.all(jnp.abs(updates) < 0.1))
      True

    References:
      Lv et al. 2017, https://arxiv.org/abs/1703.03578
    """
    return _build(hidden_size, num_layers, output_scale, b1, b2, by_units=False)


def by_units(optimizer: LearnedOptimizer) -> LearnedOptimizer:
    """The same optimizer with a state that suits meta-training: a row for each unit instead of each coordinate.

    It takes the same theta and gives the same updates, and its derivative with respect to theta takes less time. Its
    states cannot be exchanged with those of `optimizer`.

    Args:
      optimizer: what `rnnprop` returns.

    Raises:
      ValueError: if it is another kind of optimizer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = by_units(rnnprop(hidden_size=4))
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> updates, state = tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
      >>> updates.shape
      (3,)
    """
    return coordinate_lstm.rebuilt_by_units(optimizer, "rnnprop", _build)


def _build(hidden_size, num_layers, output_scale, b1, b2, by_units):
    hidden_size = checks.whole_number("hidden_size", hidden_size, 1)
    num_layers = checks.whole_number("num_layers", num_layers, 1)
    output_scale = checks.real_number("output_scale", output_scale)
    b1 = checks.real_number("b1", b1)
    b2 = checks.real_number("b2", b2)
    if not (0.0 <= b1 < 1.0 and 0.0 <= b2 < 1.0):
        raise ValueError(f"b1 and b2 must be at least 0 and below 1, such as 0.95, got {b1} and {b2}.")

    def init(key):
        input_key, network_key = jax.random.split(key)
        w = jax.random.truncated_normal(input_key, -2.0, 2.0, (2, hidden_size), jnp.float32) / math.sqrt(2.0)
        layer = {"b": jnp.zeros((hidden_size,), jnp.float32), "w": w}
        return {"inputs": layer, **coordinate_lstm.draw(network_key, hidden_size, num_layers, hidden_size)}

    def rule(theta, horizon):
        del horizon
        weights = {name: layer for name, layer in theta.items() if name != "inputs"}

        def update(grad, param, slots, step):
            del param
            limited = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
            (first,) = features.momenta(limited, (slots.first,), (b1,))
            second = features.second_moment(limited, slots.second, b2)
            corrected = jnp.maximum(second / (1.0 - b2 ** (step + 1.0)), _MIN_MOMENT)
            unit = 1.0 / (jnp.sqrt(corrected) + EPSILON)
            seen = limited * unit, first / (1.0 - b1 ** (step + 1.0)) * unit
            output, states = coordinate_lstm.advance(
                weights, seen, slots.lstm, by_units=by_units, layer=theta["inputs"]
            )
            return -output_scale * jnp.tanh(output), Slots(first, second, states)

        lstm = coordinate_lstm.slots(hidden_size, num_layers, by_units=by_units)
        return per_tensor(Slots(momentum, zeros, lstm), update)

    spec = {
        "kind": "rnnprop",
        "feature_version": FEATURE_VERSION,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "output_scale": output_scale,
        "b1": b1,
        "b2": b2,
    }
    return define(spec, init, rule)
