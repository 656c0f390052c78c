"""The per-parameter features that `factored_mlp` introduced and several later architectures share.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022,
"Practical tradeoffs between memory, compute, and performance in learned optimizers" (adafac_mlp),
https://arxiv.org/abs/2203.11860

Notation: m are three momenta of the gradient g, and v is the moving average of g². r and c are three moving averages
each of the mean of g² over the rows and over the columns of the two largest dimensions. F(x) = x / √(r / mean r) / √c.
The features are g, p, m, v, m/√v, 1/√v, F(g), r, c, 1/√r, 1/√c and F(m), each divided by its root mean square over the
tensor. Tensors with fewer than two dimensions have moving averages of g² instead of r and c, and F(x) = x/√v.

Features are never stored for a whole tensor. `observe` computes their mean squares, and `inputs` returns expressions
that XLA fuses into the loop that uses them. If two sums over a tensor, or a sum and the loop that computes the update,
had a subexpression in common, XLA would compute it once and store it. Recomputing a product is cheaper than storing it,
so some products are written twice, with a different order or sign each time.
"""

from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import factored_moments
from learned_optim import features
from learned_optim import networks
from learned_optim.factored_moments import DECAYS
from learned_optim.factored_moments import Decays
from learned_optim.factored_moments import Factored
from learned_optim.factored_moments import Slots
from learned_optim.rule import Theta

NUM_FEATURES = 28
NUM_EXTENDED_FEATURES = 30


class Features(NamedTuple):
    """One array per feature, in the order of the network's inputs. Fields with three arrays have one for each decay."""

    grad: jax.Array  # g
    param: jax.Array  # p
    momenta: Sequence[jax.Array]  # m
    moment: jax.Array  # v
    adam: Sequence[jax.Array]  # m/√v
    rsqrt: jax.Array  # 1/√v
    factored_grads: Sequence[jax.Array]  # F(g)
    rows: Sequence[jax.Array]  # r
    columns: Sequence[jax.Array]  # c
    row_rsqrts: Sequence[jax.Array]  # 1/√r
    column_rsqrts: Sequence[jax.Array]  # 1/√c
    factored_momenta: Sequence[jax.Array]  # F(m)
    clipped_grad: jax.Array | None = None  # the gradient clipped to ±.1, only in the extended set of features
    rmsprop: jax.Array | None = None  # g/√v, likewise


class Observed(NamedTuple):
    """The arrays from which `inputs` computes the features: float32, of the tensor's rank, broadcastable to its shape.

    Fields with three arrays have one for each decay.
    """

    grad: jax.Array
    param: jax.Array
    momenta: Sequence[jax.Array]
    moment: jax.Array
    rsqrt: jax.Array  # 1/√v
    factored: Factored
    row_rsqrts: Sequence[jax.Array]  # 1/√r
    column_rsqrts: Sequence[jax.Array]  # 1/√c


def observe(
    grad: jax.Array,
    param: jax.Array,
    slots: Slots,
    decays: Decays = DECAYS,
    *,
    extended: bool = False,
    epsilon: float = 1e-6,
    vector_epsilon: float = 1e-6,
) -> tuple[Observed, Features, Slots]:
    """Updates the moving averages by one gradient.

    Args:
      grad: the gradient.
      param: the parameter.
      slots: arrays as `factored_moments.SLOTS` makes them.
      decays: of the moving averages.
      extended: as in `inputs`.
      epsilon: added to v before its inverse square root.
      vector_epsilon: as in `factored_moments.factor`.

    Returns:
      The arrays from which `inputs` computes the features, the mean square of each feature, float32[], and the new
      slots.
    """
    momenta = features.momenta(grad, slots.momenta, decays.momentum)
    moment = features.second_moment(grad, slots.moment, decays.rms[0])
    factored, squares, slots = factored_moments.factor(
        grad, momenta, slots, decays.adafactor, vector_epsilon=vector_epsilon
    )
    rsqrt = features.inverse_sqrt(moment + epsilon)
    row_rsqrts = [features.inverse_sqrt(x + 1e-8) for x in factored.rows]
    column_rsqrts = [features.inverse_sqrt(x + 1e-8) for x in factored.columns]
    mean_squares = Features(
        grad=squares.grad,
        param=features.mean_square(param),
        momenta=squares.momenta,
        moment=features.mean_square(moment),
        adam=[_quotient_square(m, rsqrt) for m in momenta],
        rsqrt=features.mean_square(rsqrt),
        factored_grads=squares.factored_grads,
        rows=[features.mean_square(x) for x in factored.rows],
        columns=[features.mean_square(x) for x in factored.columns],
        row_rsqrts=[features.mean_square(x) for x in row_rsqrts],
        column_rsqrts=[features.mean_square(x) for x in column_rsqrts],
        factored_momenta=squares.factored_momenta,
        clipped_grad=features.mean_square(_clipped(grad)) if extended else None,
        rmsprop=_quotient_square(grad, rsqrt) if extended else None,
    )
    observed = Observed(grad, param, momenta, moment, rsqrt, factored, row_rsqrts, column_rsqrts)
    return observed, mean_squares, slots._replace(momenta=momenta, moment=moment)


def inputs(observed: Observed, *, extended: bool = False) -> Features:
    """The features before they are normalized: 28 float32 arrays that broadcast to the tensor's shape.

    Args:
      observed: as `observe` returns it.
      extended: whether to add the two further features of VeLO, the gradient clipped to ±.1 and g/√v.
    """
    grad, momenta, rsqrt = observed.grad, observed.momenta, observed.rsqrt
    return Features(
        grad=grad,
        param=observed.param,
        momenta=momenta,
        moment=observed.moment,
        adam=[m * rsqrt for m in momenta],
        rsqrt=rsqrt,
        factored_grads=[grad * math.prod(factors) for factors in observed.factored.grad_factors],
        rows=observed.factored.rows,
        columns=observed.factored.columns,
        row_rsqrts=observed.row_rsqrts,
        column_rsqrts=observed.column_rsqrts,
        factored_momenta=[m * math.prod(fs) for m, fs in zip(momenta, observed.factored.momentum_factors, strict=True)],
        clipped_grad=_clipped(grad) if extended else None,
        rmsprop=grad * rsqrt if extended else None,
    )


def normalizers(mean_squares: Features) -> jax.Array:
    """The factors that normalize the features, float32[28 or 30], from their mean squares."""
    return jax.lax.rsqrt(1e-5 + jnp.stack(jax.tree.leaves(mean_squares)))


def init_network(
    network: networks.Network, key: jax.Array, *, extended: bool = False, num_shared: int = 0
) -> dict[str, Any]:
    """Initial theta of a network, made by `networks.per_parameter_mlp`, on these features.

    Args:
      network: the network.
      key: a key.
      extended: as in `inputs`.
      num_shared: number of inputs that all coordinates share.
    """
    count = NUM_EXTENDED_FEATURES if extended else NUM_FEATURES
    arrays, scales = [jnp.zeros((), jnp.float32)] * count, jnp.ones((count,), jnp.float32)
    return dict(network.init(key, arrays, scales, jnp.zeros((num_shared,), jnp.float32)))


def apply_network(
    network: networks.Network, theta: Theta, inputs: Features, scales: jax.Array, shared: jax.Array | None = None
) -> list[jax.Array]:
    """Outputs of a network, made by `networks.per_parameter_mlp`, on these features.

    Args:
      network: the network.
      theta: its weights.
      inputs: as `inputs` returns them.
      scales: as `normalizers` returns them.
      shared: inputs that all coordinates share, float32[num_shared]. None: there are none.
    """
    shared = jnp.zeros((0,), jnp.float32) if shared is None else shared
    return network.apply(theta, jax.tree.leaves(inputs), scales, shared)


def _clipped(grad):
    return jnp.clip(grad, -0.1, 0.1)


def _quotient_square(x, rsqrt):
    """The mean square of `x * rsqrt`. `abs` keeps XLA from storing that product, which `inputs` computes too."""
    return factored_moments.bounded_mean(jnp.square(jnp.abs(x) * rsqrt))
