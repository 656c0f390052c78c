"""`adaptive_muon` with a slow momentum, secants, and networks: what meta-training adds to a designed optimizer.

Our own architecture. Before meta-training it is `adaptive_muon`. It adds a momentum of decay .99, as AdEMAMix has
(Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137), secants, which tell how the gradient changes along the
steps taken (Barzilai and Borwein 1988), and two small networks. One changes the direction of each coordinate before it
is orthogonalized, as in Celo2 (https://arxiv.org/abs/2602.19142), the other the step size and the decay of each tensor.
Without the networks it is their network-free sibling.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import checks
from learned_optim import features
from learned_optim import networks
from learned_optim import samples
from learned_optim import step_control
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import zeros
from learned_optim.optimizers.adaptive_muon import MOMENT_DECAY
from learned_optim.optimizers.adaptive_muon import MOMENTUM_DECAY
from learned_optim.optimizers.adaptive_muon import MOST
from learned_optim.optimizers.adaptive_muon import TensorFeatures
from learned_optim.optimizers.adaptive_muon import adaptive_muon
from learned_optim.optimizers.adaptive_muon import advance
from learned_optim.optimizers.adaptive_muon import first_shared
from learned_optim.optimizers.adaptive_muon import momentum_factors
from learned_optim.optimizers.adaptive_muon import nesterov
from learned_optim.optimizers.adaptive_muon import over_root
from learned_optim.optimizers.adaptive_muon import scaled

FEATURE_VERSION = 1
SLOW_DECAY = 0.99
_SECANT_DECAY = 0.9
_TINY = 1e-24  # added to second moments
_TINIEST = 1e-30  # added to averages of products


class SecantFeatures(NamedTuple):
    """The features that it has beside those of `adaptive_muon`, float32[tensors] each."""

    onward: jax.Array  # -cosine of the gradient and the last step, averaged, from -1 (the step went too far) to 1
    straight: jax.Array  # derivative of the loss along the last step after it over that before it; 1 on a line
    slow_cosine: jax.Array  # cosine of the directions by the momenta of decay .9 and .99
    slow_size: jax.Array  # log(root mean square of ñ / √v + .01) + 2


NUM_FEATURES = len(TensorFeatures._fields) + len(SecantFeatures._fields)


class Averages(NamedTuple):
    """Moving averages of the gradients of a tensor, or of the samples of all tensors."""

    momentum: Any  # m, of the gradient, decay .9
    slow: Any  # n, of the gradient, decay .99
    moment: Any  # v, of the squared gradient, decay .99


class Secants(NamedTuple):
    """How the gradients of all tensors change along their steps."""

    last_param: jax.Array  # float32[tensors, sample], the parameters before the last step
    after: jax.Array  # float32[tensors], average of ⟨gradient, last step⟩, decay .9
    before: jax.Array  # float32[tensors], average of ⟨momentum before the gradient, last step⟩, decay .9
    most: jax.Array  # float32[tensors], average of ‖gradient‖ ‖last step‖, decay .9


class Shared(NamedTuple):
    """State of all tensors together."""

    averages: Averages  # float32[tensors, sample] each, those of the samples
    agreement: jax.Array  # float32[tensors], moving average of mean(g m) / mean(v), decay .99
    control: step_control.Control  # of the step sizes
    secants: Secants


class Mix(NamedTuple):
    """How the direction of each tensor is made, float32[tensors] each unless stated."""

    lookahead: jax.Array  # λ, the weight of the gradient in Nesterov momentum
    slow: jax.Array  # α, the weight of the momentum of decay .99
    exponent: jax.Array  # e, the direction is multiplied by (v / mean v)^e
    log_moment: jax.Array  # log(mean v), of the sample
    size: jax.Array  # root mean square of the parameters, as `schedule.size`
    gates: jax.Array  # float32[tensors, hidden], s, the sensitivity of each hidden unit


def secant_muon(hidden_size: int = 8, step_hidden_size: int = 16) -> LearnedOptimizer:
    r"""Builds the optimizer; `adaptive_muon` documents what it has in common with that.

    .. math::
      x = \Big(\frac{\tilde m}{\sqrt v} + \alpha \frac{\tilde n}{\sqrt v}\Big) \Big(\frac{v}{\bar v}\Big)^e, \qquad
      u = x + \sum_j w_j \, \mathrm{clip}(s_j \, W_j f, -1, 1), \qquad
      \Delta p = -\gamma \, (D \, e^\ell \, d + \omega \, p)

    m̃ is Nesterov momentum of decay .9 with the weight λ of the gradient, ñ the momentum of decay .99, v the average of
    squared gradients of decay .99, all bias-corrected. v̄ is the mean of v over the tensor's sample; v / v̄ is clipped
    to e^±10. d is the orthogonalized u for matrices and u for others; x and u are clipped to ±4. The inputs f of the
    network of a coordinate are x, ñ / √v, g / √v and the parameter over the tensor's size, clipped to ±4. The network
    is odd: gradients and parameters of opposite signs give the opposite direction.

    λ, α, e and the gates s are functions of the features c of the tensor (`TensorFeatures` of `adaptive_muon` and
    `SecantFeatures`), linear before a sigmoid, a clip to ±2, a clip to ±½ and an exponential. So are ℓ and log ω, to
    which the second network adds w₂ tanh(W₁ c + b₁). The controller of D gets `onward` and `straight` beside Prodigy's
    estimate.

    Args:
      hidden_size: hidden units of the network of a coordinate; 0 leaves it out.
      step_hidden_size: hidden units of the network of a tensor; 0 leaves it out.

    Returns:
      A `LearnedOptimizer`. Its key draws the first layers; the last ones are zero, so that the updates before
      meta-training are those of `adaptive_muon`. State: three float32 copies of the parameters (m, n and v), six
      numbers for each coordinate of the samples, seven more for each tensor, and a step counter.

    Raises:
      ValueError: if a size is negative or no integer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = secant_muon()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=400)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # as those of `adaptive_muon`
      -0.08398 -0.00820
    """
    hidden_size = checks.whole_number("hidden_size", hidden_size, 0)
    step_hidden_size = checks.whole_number("step_hidden_size", step_hidden_size, 0)

    def init(key):
        return _init_theta(key, hidden_size, step_hidden_size)

    def rule(theta, horizon):
        def update(grads, params, slots, shared, step, loss):
            del loss
            return _update(theta, horizon, grads, params, slots, shared, step) if grads else ([], [], shared)

        return Rule(Averages(momentum, momentum, zeros), update, _first_shared)

    spec = {
        "kind": "secant_muon",
        "feature_version": FEATURE_VERSION,
        "hidden_size": hidden_size,
        "step_hidden_size": step_hidden_size,
    }
    return define(spec, init, rule)


def _init_theta(key, hidden_size, step_hidden_size):
    keys = jax.random.split(key)
    theta = adaptive_muon().init(key)
    none = jnp.zeros((NUM_FEATURES,), jnp.float32)
    from_features = {"base": none[0], "skip": none}
    longer = lambda weights: jnp.pad(weights, (0, NUM_FEATURES - len(weights)))
    theta["decay"]["skip"] = longer(theta["decay"]["skip"])
    theta["step"] = longer(theta["step"])
    theta["mix"] = {"lookahead": none, "slow": from_features, "exponent": dict(from_features)}
    theta["secants"] = none[:2]  # weights of `onward` and `straight` in the controller
    if hidden_size:
        theta["direction_network"] = {
            "w": networks.truncated_normal(keys[0], 4, hidden_size),
            "gate": jnp.zeros((NUM_FEATURES, hidden_size), jnp.float32),
            "b": jnp.zeros((hidden_size,), jnp.float32),
            "w_out": jnp.zeros((hidden_size,), jnp.float32),
        }
    if step_hidden_size:
        theta["step_network"] = {
            "w": networks.truncated_normal(keys[1], NUM_FEATURES, step_hidden_size),
            "b": jnp.zeros((step_hidden_size,), jnp.float32),
            "w_out": jnp.zeros((step_hidden_size, 2), jnp.float32),  # to the log step size and the log decay
        }
    return theta


def _first_shared(params):
    first = first_shared(params)
    rows, zero = first.control.first_param, first.agreement
    averages = Averages(first.averages.momentum, jnp.zeros_like(rows), first.averages.moment)
    return Shared(averages, zero, first.control, Secants(rows, zero, zero, zero))


def _update(theta, horizon, grads, params, slots, shared, step):
    grad_rows, param_rows = samples.take(grads), samples.take(params)
    numbers = samples.sizes(params)
    secants = _secants(grad_rows, param_rows, shared.averages.momentum, shared.secants, step)
    onward = features.ratio(-secants.after, secants.most + _TINIEST)
    straight = jnp.sign(secants.before) * features.ratio(secants.after, jnp.abs(secants.before) + _TINIEST)
    straight = jnp.clip(straight, -2.0, 2.0)
    bias = theta["control"]["bias"] + theta["secants"][0] * onward + theta["secants"][1] * straight
    advised = {**theta, "control": {**theta["control"], "bias": bias}}
    plain = advance(advised, horizon, grad_rows, param_rows, params, shared, step)

    momentum_rows, moment_rows = plain.shared.averages
    averages = Averages(momentum_rows, _slow_momentum(grad_rows, shared.averages.slow), moment_rows)
    slow_rows = _slow_direction(averages, step)
    slow_size = jnp.sqrt(samples.mean_squares(slow_rows, numbers) + _TINY)
    cosine = _cosines(plain.direction, slow_rows)
    c = (*plain.features, *SecantFeatures(onward, straight, cosine, jnp.log(slow_size + 0.01) + 2.0))
    c = jnp.stack([jnp.broadcast_to(feature, onward.shape) for feature in c], axis=1)
    log_step, log_shrink = c @ theta["step"], c @ theta["decay"]["skip"]
    if "step_network" in theta:
        network = theta["step_network"]
        added = jnp.tanh(c @ network["w"] + network["b"][None]) @ network["w_out"]
        log_step, log_shrink = log_step + added[:, 0], log_shrink + added[:, 1]
    steps = jnp.exp(plain.log_step + jnp.clip(log_step, -5.0, 5.0)) * plain.decay
    shrink = jnp.exp(theta["decay"]["base"] + jnp.clip(log_shrink, -5.0, 5.0)) * plain.decay

    mix = _mix(theta, c, averages.moment, jnp.exp(step_control.log_sizes(params, param_rows)), numbers)
    directions, new_slots = [], []
    for i, (grad, param, slot) in enumerate(zip(grads, params, slots, strict=True)):
        direction, slot = _direction(theta, grad, param, slot, Mix(*(row[i] for row in mix)), step)
        directions.append(direction)
        new_slots.append(slot)
    shared = Shared(averages, plain.shared.agreement, plain.shared.control, secants)
    return scaled(directions, params, steps, shrink), new_slots, shared


def _secants(grads, params, momenta, secants, step):
    """Updates the averages along the last steps."""
    moved = params - secants.last_param
    limited = _limited(grads)
    # Before step 1 nothing has moved, and the momentum is zero.
    before = momenta / jnp.maximum(1.0 - MOMENTUM_DECAY**step, 1.0 - MOMENTUM_DECAY)
    average = lambda old, new: _SECANT_DECAY * old + (1.0 - _SECANT_DECAY) * new
    return Secants(
        params,
        average(secants.after, jnp.sum(limited * moved, axis=1)),
        average(secants.before, jnp.sum(before * moved, axis=1)),
        average(secants.most, _norms(limited) * _norms(moved)),
    )


def _slow_momentum(grad, slow):
    (slow,) = features.momenta(_limited(grad), (slow,), (SLOW_DECAY,))
    return slow


def _limited(grad):
    return jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)


def _slow_direction(averages, step):
    """ñ / √v. The two bias corrections make one, as both decays are .99."""
    return over_root(averages.slow, 1.0 / jnp.sqrt(1.0 - SLOW_DECAY ** (step + 1.0)), averages.moment)


def _cosines(x, y):
    return features.ratio(jnp.sum(x * y, axis=1), _norms(x) * _norms(y))


def _norms(x):
    """Norms of rows, at least 1e-12, so that the product of two of them is above zero in float32."""
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=1) + _TINY)


def _mix(theta, c, moments, sizes, numbers):
    """How the directions of all tensors are made."""
    weights = theta["mix"]
    means = jnp.sum(moments, axis=1) / numbers.astype(np.float32)
    network = theta.get("direction_network")
    gates = (
        jnp.zeros((len(c), 0))
        if network is None
        else jnp.exp(jnp.clip(c @ network["gate"] + network["b"][None], -3.0, 3.0))
    )
    return Mix(
        lookahead=jax.nn.sigmoid(theta["lookahead"] + c @ weights["lookahead"]),
        slow=jnp.clip(c @ weights["slow"]["skip"] + weights["slow"]["base"], -2.0, 2.0),
        exponent=jnp.clip(c @ weights["exponent"]["skip"] + weights["exponent"]["base"], -0.5, 0.5),
        log_moment=jnp.log(means + _TINY),
        size=sizes,
        gates=gates,
    )


def _direction(theta, grad, param, averages, mix, step):
    """The direction u of a tensor before it is orthogonalized, and its averages."""
    direction, pair = nesterov(grad, averages, *momentum_factors(mix.lookahead, step))
    averages = Averages(pair.momentum, _slow_momentum(grad, averages.slow), pair.moment)
    slow = _slow_direction(averages, step)
    relative = jnp.clip(jnp.log(averages.moment + _TINY) - mix.log_moment, -10.0, 10.0)
    x = jnp.clip((direction + mix.slow * slow) * jnp.exp(mix.exponent * relative), -MOST, MOST)
    if "direction_network" not in theta:
        return x, averages
    network, correction = theta["direction_network"], jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    plain = over_root(_limited(grad), correction, averages.moment)
    inputs = (x, slow, plain, jnp.clip(param / mix.size, -MOST, MOST))
    u = x
    for j in range(network["w_out"].shape[0]):  # unrolled: on CPUs XLA makes one loop over the coordinates of it
        hidden = sum(network["w"][i, j] * f for i, f in enumerate(inputs)) * mix.gates[j]
        u = u + network["w_out"][j] * jnp.clip(hidden, -1.0, 1.0)
    return jnp.clip(u, -MOST, MOST), averages
