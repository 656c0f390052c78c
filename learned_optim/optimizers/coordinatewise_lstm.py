"""Coordinatewise LSTM: a recurrent network, shared by all coordinates, maps the gradients of each to its steps.

Andrychowicz, Denil, Gomez, Hoffman, Pfau, Schaul, Shillingford, de Freitas 2016, "Learning to learn by gradient
descent by gradient descent", https://arxiv.org/abs/1606.04474

Deviations: gradient preprocessing (p = 10) and output scale (0.1) are the paper's, not those of its released code (p =
5, 0.01). With `preprocess_p=5, output_scale=0.01` updates equal the equations of that code. One network serves all
tensors unless `separate_kernels` is set. In its CIFAR-10 experiment the paper has two, one for convolutional and one
for fully connected layers. Here the rank of a tensor decides, so the bias of a convolution belongs to the second group.
"""

from typing import NamedTuple

import jax

from learned_optim import checks
from learned_optim import coordinate_lstm
from learned_optim import features
from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1
_GROUPS = ("kernels", "rest")


class Slots(NamedTuple):
    """State of a coordinate."""

    lstm: tuple[networks.LSTMState, ...]  # one for each layer, of arrays of shape [..., hidden_size]


def coordinatewise_lstm(
    hidden_size: int = 20,
    num_layers: int = 2,
    *,
    output_scale: float = 0.1,
    preprocess_p: float = 10.0,
    separate_kernels: bool = False,
) -> LearnedOptimizer:
    r"""Builds the coordinatewise LSTM optimizer.

    .. math:: (\Delta p_t, h_{t+1}) = (0.1 \, o_t, h_{t+1}), \qquad (o_t, h_{t+1}) = \mathrm{LSTM}(x(g_t), h_t)

    where x(g) is `learned_optim.features.log_sign`: the gradient's log magnitude and its sign.

    Args:
      hidden_size: units in each LSTM layer.
      num_layers: number of LSTM layers.
      output_scale: factor on the network's output, in units of the parameters.
      preprocess_p: p; gradients below exp(-p) in magnitude are passed on linearly.
      separate_kernels: whether tensors with three dimensions or more, the kernels of convolutions, have a network of
        their own, as in the paper's CIFAR-10 experiment. Theta then contains two networks, "kernels" and "rest".

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted and not used. State: `2 * num_layers * hidden_size` float32 numbers
      for each coordinate (80 at the default sizes) and a step counter.

    Raises:
      ValueError: if a size is below 1.
      TypeError: if a size is not a whole number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = coordinatewise_lstm()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = jnp.ones(3)
      >>> updates, state = tx.update(params, tx.init(params), params)

    References:
      Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474
    """
    return _build(hidden_size, num_layers, output_scale, preprocess_p, separate_kernels, by_units=False)


def by_units(optimizer: LearnedOptimizer) -> LearnedOptimizer:
    """The same optimizer with a state that suits meta-training: a row for each unit instead of each coordinate.

    It takes the same theta and gives the same updates, and its derivative with respect to theta takes less time. Its
    states cannot be exchanged with those of `optimizer`.

    Args:
      optimizer: what `coordinatewise_lstm` returns.

    Raises:
      ValueError: if it is another kind of optimizer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = by_units(coordinatewise_lstm(hidden_size=4))
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> updates, state = tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
      >>> updates.shape
      (3,)
    """
    return coordinate_lstm.rebuilt_by_units(optimizer, "coordinatewise_lstm", _build, separate_kernels=False)


def _build(hidden_size, num_layers, output_scale, preprocess_p, separate_kernels, by_units):
    hidden_size = checks.whole_number("hidden_size", hidden_size, 1)
    num_layers = checks.whole_number("num_layers", num_layers, 1)
    output_scale = checks.real_number("output_scale", output_scale)
    preprocess_p = checks.real_number("preprocess_p", preprocess_p)
    separate_kernels = checks.flag("separate_kernels", separate_kernels)

    def init(key):
        draw = lambda key: coordinate_lstm.draw(key, hidden_size, num_layers, 2)
        if not separate_kernels:
            return draw(key)
        return {group: draw(key) for group, key in zip(_GROUPS, jax.random.split(key), strict=True)}

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            del param, step
            weights = theta[_GROUPS[0] if grad.ndim > 2 else _GROUPS[1]] if separate_kernels else theta
            inputs = features.log_sign(grad, preprocess_p)
            output, state = coordinate_lstm.advance(weights, inputs, slots.lstm, by_units=by_units)
            return output_scale * output, Slots(state)

        return per_tensor(Slots(coordinate_lstm.slots(hidden_size, num_layers, by_units=by_units)), update)

    spec = {
        "kind": "coordinatewise_lstm",
        "feature_version": FEATURE_VERSION,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "output_scale": output_scale,
        "preprocess_p": preprocess_p,
    }
    if separate_kernels:  # left out otherwise, so that older versions can load the file
        spec["separate_kernels"] = True
    return define(spec, init, rule)
