"""The compiled programs of a run: one that starts it, and one that makes several outer steps, or one for each task.

The particles are spread over a one-axis mesh of devices. Everything else is replicated on all of them.
"""

import functools
import os
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.outer.outer_metrics import reported
from meta_train.training.outer_step import Carried
from meta_train.training.outer_step import OuterRule
from meta_train.training.outer_step import update

AXIS = "particles"
# For CPUs. `start` of many tasks takes as long to compile as `dispatch` with XLA's optimizations, without them a
# quarter of that.
_QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_WIDTH = "xla_cpu_prefer_vector_width"


class EngineState(NamedTuple):
    """All that changes from outer step to outer step."""

    step: jax.Array  # int32[], outer steps made
    theta: Any
    outer_state: Any  # the outer optimizer's state, or the search's
    estimator_states: tuple[Any, ...]  # one per estimator: [particles, …], in a search [particles, candidates, …]


class Metrics(NamedTuple):
    """The metrics of an outer step; `Engine.run` gives each with a leading axis of steps."""

    loss: jax.Array  # float32[], mean of the tasks' losses
    task_losses: jax.Array  # float32[tasks]
    grad_norm: jax.Array  # float32[], before any clipping
    dropped: jax.Array  # int32[], particles left out because they were not finite
    inner_steps: jax.Array  # int32[], inner steps made
    gradient_variance: jax.Array  # float32[], trace of the covariance of the gradient before clipping; NaN if unknown
    snr: jax.Array  # float32[], squared norm of the gradient over that trace; NaN if unknown
    outer: dict[str, jax.Array]  # what the outer optimizer or search reports about itself


class Programs(NamedTuple):
    """Jitted functions; each is compiled when it is first called, or ahead of that by its `lower`.

    Fields:
      start: `(theta, seed) -> EngineState`, before the first outer step.
      dispatch: `(state, seed, num_steps, data) -> (state, Metrics)`. It takes the memory of the state. With a program
        for each task it makes one step, whatever num_steps is.
      lower: `(state, data) -> iterator of jax.stages.Lowered`, of all programs that take long to compile.
      put: `((theta, outer_state)) -> (theta, outer_state)` on the devices.
      placed_state: `(theta, seed) -> EngineState` of abstract arrays, as `start` returns them.
    """

    start: Any
    dispatch: Any
    lower: Any
    put: Any
    placed_state: Any


def build(rule: OuterRule, mesh: jax.sharding.Mesh, steps_per_dispatch: int, by_task: bool = False) -> Programs:
    """Builds the programs for a rule; nothing is traced before it is needed.

    Args:
      rule: how theta moves.
      mesh: the devices, one axis.
      steps_per_dispatch: the most outer steps that a dispatch makes.
      by_task: whether each task has a program of its own, so that each dispatch makes one step.
    """
    replicated: Any = jax.P()  # partition specs and shardings stand in the places of the arrays that they are for
    sharded: Any = jax.P(AXIS)
    specs = EngineState(replicated, replicated, replicated, sharded)
    shardings = EngineState(*(jax.sharding.NamedSharding(mesh, spec) for spec in specs))  # pyright: ignore[reportArgumentType]

    def start(theta, seed):
        key = jax.random.fold_in(jax.random.key(seed), 0)
        theta = jax.tree.map(jnp.copy, theta)  # not the caller's memory, for `dispatch` takes it
        return EngineState(jnp.zeros((), jnp.int32), *rule.begin(key, theta))

    on_cpu = mesh.devices.flat[0].platform == "cpu"
    quickly = _QUICK_TO_COMPILE if on_cpu else None  # it runs once
    options = wide_vectors() if on_cpu else None
    # The replicated outputs are equal on all devices by construction; check_vma cannot see it through the optimizers.
    spread = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    if by_task:
        dispatch, lower = _task_by_task(rule, spread, shardings.theta, options)
    else:
        in_specs, out_specs = (specs, replicated, replicated, replicated), (specs, replicated)
        whole = spread(_dispatch(rule, steps_per_dispatch), in_specs=in_specs, out_specs=out_specs)
        dispatch = jax.jit(whole, donate_argnums=0, compiler_options=options)
        lower = lambda state, data: iter([dispatch.lower(state, np.uint32(0), np.int32(1), data)])
    return Programs(
        start=jax.jit(start, out_shardings=shardings, compiler_options=quickly),
        dispatch=dispatch,
        lower=lower,
        put=jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings.theta),
        placed_state=lambda theta, seed: _placed(jax.eval_shape(start, theta, seed), shardings),
    )


def wide_vectors() -> dict[str, int] | None:
    """Compiler options for loops over vectors of 512 bits, on CPUs that have them. XLA itself chooses 256.

    Returns:
      None if XLA_FLAGS chooses a width, or if XLA does not know the option.
    """
    chosen = _WIDTH in os.environ.get("XLA_FLAGS", "")
    return None if chosen or not _is_option(_WIDTH, 512) else {_WIDTH: 512}


@functools.cache
def _is_option(name, value):
    """Whether XLA knows a compiler option. It refuses to compile anything with one that it does not know."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _task_by_task(rule, spread, everywhere, options):
    """`dispatch`, which makes an outer step by a program for each task and two small ones, and `lower`."""
    replicated, sharded = jax.P(), jax.P(AXIS)

    def ask(seed, step, theta, outer_state):
        return rule.ask(_step_key(seed, step), Carried(theta, outer_state, ()))

    def task(estimate):
        def estimate_task(asked, state, seed, step, data):
            return estimate(_step_key(seed, step), asked, state, data)

        in_specs = (replicated, sharded, replicated, replicated, replicated)
        run = spread(estimate_task, in_specs=in_specs, out_specs=(replicated, sharded, replicated))
        return jax.jit(run, donate_argnums=1, compiler_options=options)

    def tell(seed, step, theta, outer_state, asked, results):
        none = ((),) * len(results)  # the estimators' states stay outside
        results = [(gradient, (), info) for gradient, info in results]
        carried, gradient, infos = rule.tell(_step_key(seed, step), Carried(theta, outer_state, none), asked, results)
        rows = jax.tree.map(lambda x: x[None], _metrics(infos, gradient, carried.outer_state))
        return step + 1, carried.theta, carried.outer_state, rows

    ask, tasks = jax.jit(ask, out_shardings=everywhere), [task(estimate) for estimate in rule.estimates]
    replicate = spread(tell, in_specs=replicated, out_specs=replicated)
    tell = jax.jit(replicate, donate_argnums=3)

    def dispatch(state, seed, num_steps, data):
        del num_steps
        asked = ask(seed, state.step, state.theta, state.outer_state)
        made = [
            run(asked, each, seed, state.step, its_data)
            for run, each, its_data in zip(tasks, state.estimator_states, data, strict=True)
        ]
        results = [(gradient, info) for gradient, _, info in made]
        step, theta, outer_state, rows = tell(seed, state.step, state.theta, state.outer_state, asked, results)
        return EngineState(step, theta, outer_state, tuple(each for _, each, _ in made)), rows

    def lower(state, data):
        seed, shapes = np.uint32(0), []
        # With the shardings that it will have: else each task would be compiled again when it first runs.
        asked = _on(everywhere, jax.eval_shape(ask, seed, state.step, state.theta, state.outer_state))
        for run, each, its_data in zip(tasks, state.estimator_states, data, strict=True):
            gradient, _, info = jax.eval_shape(run, asked, each, seed, state.step, its_data)
            shapes.append((gradient, info))
        jax.eval_shape(tell, seed, state.step, state.theta, state.outer_state, asked, shapes)  # errors come early
        for run, each, its_data in zip(tasks, state.estimator_states, data, strict=True):
            yield run.lower(asked, each, seed, state.step, its_data)

    return dispatch, lower


def _step_key(seed, step):
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), step)


def _dispatch(rule, steps_per_dispatch):
    """Several outer steps: `(state, seed, num_steps, data) -> (state, metrics [steps_per_dispatch, …])`."""

    @functools.partial(jax.jit, inline=True)  # traced once, for its shapes and for the loop
    def outer_step(state, seed, data):
        carried, gradient, infos = update(rule, _step_key(seed, state.step), Carried(*state[1:]), data)
        return EngineState(state.step + 1, *carried), _metrics(infos, gradient, carried.outer_state)

    def dispatch(state, seed, num_steps, data):
        shapes = jax.eval_shape(outer_step, state, seed, data)[1]
        rows = jax.tree.map(lambda x: jnp.zeros((steps_per_dispatch, *x.shape), x.dtype), shapes)

        def body(i, carry):
            state, rows = carry
            state, metrics = outer_step(state, seed, data)
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, metrics)

        return jax.lax.fori_loop(0, num_steps, body, (state, rows))

    return dispatch


def _metrics(infos, gradient, outer_state):
    task_losses = jnp.stack([info.loss for info in infos])
    grad_norm = optax.tree.norm(gradient)
    # The variance of a mean of independent estimates is the sum of their variances over the square of their number.
    variance = jnp.asarray(sum(info.gradient_variance for info in infos) / len(infos) ** 2, jnp.float32)
    return Metrics(
        jnp.mean(task_losses),
        task_losses,
        grad_norm,
        _total([info.dropped for info in infos]),
        _total([info.inner_steps for info in infos]),
        variance,
        jnp.square(grad_norm.astype(jnp.float32)) / variance,
        reported(outer_state),
    )


def _total(counts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, counts)


def _placed(shapes, shardings):
    """Abstract arrays with their shardings, as `jit` sees the arrays that it made."""
    return jax.tree.map(_on, shardings, shapes)


def _on(sharding, tree):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding, weak_type=x.weak_type), tree
    )
