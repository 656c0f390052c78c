"""Learned optimizers in the training loops of Haiku, Flax NNX and Equinox, each written as that library's users do."""

import functools

import equinox as eqx
from flax import linen
from flax import nnx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_optim import learned_optimizer
from learned_optim import optimizers

NUM_STEPS = 100

_random = np.random.RandomState(0)
X = jnp.asarray(_random.standard_normal((64, 8)), jnp.float32)
Y = jnp.asarray(np.sin(_random.standard_normal((8, 2)).T @ np.asarray(X).T).T, jnp.float32)


@functools.cache
def _released():
    return learned_optimizer()


@functools.cache
def _untrained():
    """An architecture that uses the horizon and starts as something like Adam."""
    optimizer = optimizers.KINDS["adam_residual"]()
    return optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=NUM_STEPS)


@pytest.fixture(params=[_released, _untrained])
def tx(request):
    return optax.chain(optax.clip_by_global_norm(1.0), request.param())


def _mean_square(predictions):
    return jnp.mean(jnp.square(predictions - Y))


@pytest.mark.optax_promotion
def test_haiku(tx):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 2])(x)))
    params = jax.jit(network.init)(jax.random.key(0), X)
    state = jax.jit(tx.init)(params)

    @jax.jit
    def train_step(params, state):
        loss, grads = jax.value_and_grad(lambda params: _mean_square(network.apply(params, X)))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(NUM_STEPS):
        params, state, loss = train_step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.optax_promotion
def test_flax_nnx(tx):
    """A module with batch statistics, which are no parameters and must not reach the optimizer."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.output = nnx.Linear(16, 2, rngs=rngs)

        def __call__(self, x):
            return self.output(nnx.relu(self.norm(self.hidden(x))))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: _mean_square(model(X)))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(train_step(model, optimizer)) for _ in range(NUM_STEPS)]
    assert losses[-1] < 0.8 * losses[0]
    assert int(optimizer.step[...]) == NUM_STEPS


@pytest.mark.optax_promotion
def test_equinox(tx):
    """A module whose leaves include functions: the filtered tree has None in their place."""
    model = eqx.nn.MLP(8, 2, 16, 1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def train_step(model, state):
        loss, grads = eqx.filter_value_and_grad(lambda model: _mean_square(jax.vmap(model)(X)))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(NUM_STEPS):
        model, state, loss = train_step(model, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.optax_promotion
def test_flax_nnx_makes_model_and_optimizer_in_one_jit(tx):
    """The first use of an optimizer there: what the trace made stays in the trace."""

    @nnx.jit
    def make():
        model = nnx.Linear(8, 2, rngs=nnx.Rngs(0))
        return model, nnx.Optimizer(model, learned_optimizer(num_steps=NUM_STEPS), wrt=nnx.Param)

    model, optimizer = make()

    @nnx.jit
    def train_step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: _mean_square(model(X)))(model)
        optimizer.update(model, grads)
        return loss

    first = train_step(model, optimizer)
    for _ in range(20):
        last = train_step(model, optimizer)
    assert last < first


def _mesh():
    return jax.make_mesh((2, 1), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


ARCHITECTURES = pytest.mark.parametrize(
    "kind", ["adam_residual", "adaptive_muon", "factored_mlp", "prodigy_muon", "velo"]
)


def _made(kind):
    """With theta of NumPy, which takes no compilation: the layout of the state does not depend on its values."""
    optimizer = optimizers.KINDS[kind](**({"lstm_size": 4, "num_networks": 2} if kind == "velo" else {}))
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    return optimizer.transform(jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes))


@ARCHITECTURES
def test_flax_linen_partition_spec_fits_the_state(kind):
    """As in Flax's guide: boxed parameters, and the state made under jit in the layout that the boxes say."""
    partitioned = linen.with_partitioning(linen.initializers.lecun_normal(), ("x", "y"))
    model, tx = linen.Dense(6, kernel_init=partitioned), _made(kind)

    def make():
        params = model.init(jax.random.key(0), X)
        return params, tx.init(params)

    mesh = _mesh()
    spec = linen.get_partition_spec(jax.eval_shape(make))
    shardings = jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), spec, is_leaf=lambda x: isinstance(x, jax.P))
    params, state = jax.jit(make, out_shardings=shardings)()
    is_tree = lambda node: isinstance(node, dict)
    slots = [slot for slot in jax.tree.leaves(state.slots, is_leaf=is_tree) if is_tree(slot)]
    kernels = [slot["params"]["kernel"].value for slot in slots]
    assert {str(kernel.sharding.spec) for kernel in kernels} == {str(params["params"]["kernel"].value.sharding.spec)}


@ARCHITECTURES
def test_flax_nnx_optimizer_of_annotated_parameters(kind):
    """`nnx.get_partition_spec` of an optimizer gives shardings that fit all of its state."""
    mesh, tx = _mesh(), _made(kind)

    @nnx.jit
    def make():
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("x", "y"))
        model = nnx.Linear(8, 6, kernel_init=init, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        state = nnx.state((model, optimizer))
        nnx.update((model, optimizer), jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state)))
        return model, optimizer

    @nnx.jit
    def train_step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean(jnp.square(model(X))))(model)
        optimizer.update(model, grads)

    with jax.set_mesh(mesh):
        model, optimizer = make()
        train_step(model, optimizer)
    assert model.kernel.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P("x", "y")), 2)
