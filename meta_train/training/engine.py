"""The compiled outer step: estimate, average over tasks, update theta, with particles spread over all devices.

One dispatch is one compiled program that makes several outer steps. State is donated and never leaves the devices;
data, seed and the number of steps are arguments, so that no change of them compiles anything again.
"""

from collections.abc import Callable
from collections.abc import Sequence
import concurrent.futures
import functools
import math
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators.base import Estimator
from meta_train.host import parallel
from meta_train.host.cache_folder import cache_folder
from meta_train.host.cache_folder import is_writable
from meta_train.outer.outer_metrics import reported
from meta_train.outer.search.base import SearchStrategy
from meta_train.training.outer_step import descending
from meta_train.training.outer_step import searching

_AXIS = "particles"
# For CPUs. `init` of many tasks takes as long to compile as `run` with XLA's optimizations, without them a quarter.
_QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class EngineState(NamedTuple):
    """All that changes from outer step to outer step."""

    step: jax.Array  # int32[], outer steps made
    theta: Any
    outer_state: Any  # the outer optimizer's state, or the search's
    estimator_states: tuple[Any, ...]  # one per estimator: [particles, …], in a search [particles, candidates, …]


class Metrics(NamedTuple):
    """What an outer step tells; `run` gives each with a leading axis of steps."""

    loss: jax.Array  # float32[], mean of the tasks' losses
    task_losses: jax.Array  # float32[tasks]
    grad_norm: jax.Array  # float32[], before any clipping
    dropped: jax.Array  # int32[], particles left out because they were not finite
    inner_steps: jax.Array  # int32[], inner steps made
    gradient_variance: jax.Array  # float32[], trace of the covariance of the gradient before clipping; NaN if unknown
    snr: jax.Array  # float32[], squared norm of the gradient over that trace; NaN if unknown
    outer: dict[str, jax.Array]  # what the outer optimizer or search reports of itself


class Engine(NamedTuple):
    """The compiled functions of a run.

    Fields:
      init: `(theta, seed, ahead=True) -> EngineState`. Meanwhile `run` is compiled in a thread, unless ahead is False.
      ready: `()`. Returns when that is done; raises what it raised.
      run: `(state, seed, num_steps) -> (state, Metrics)`. Makes num_steps outer steps, at most `steps_per_dispatch`,
        and takes the memory of the state it is given: a state can be used once. Rows of the metrics from num_steps on
        are zero.
      lower: `(state) -> jax.stages.Lowered` of `run`, to look at the program, its memory and its cost.
      mesh: the one-axis mesh of devices in use.
    """

    init: Callable[..., EngineState]
    ready: Callable[[], None]
    run: Callable[[EngineState, int, int], tuple[EngineState, Metrics]]
    lower: Callable[[EngineState], jax.stages.Lowered]
    mesh: jax.sharding.Mesh


def cache_compilations() -> None:
    """Keeps compiled programs on disk, so that a run that was made before starts in a second or two.

    They go to the folder that `JAX_COMPILATION_CACHE_DIR` names, or else to `learned_optim` in the user's cache folder.
    If that folder cannot be made or written to, a line on stderr says so, and nothing is kept.
    """
    named = jax.config.jax_compilation_cache_dir
    folder = str(cache_folder()) if named is None else named
    is_remote = "://" in folder
    usable = is_remote or is_writable(pathlib.Path(folder))
    jax.config.update("jax_compilation_cache_dir", folder if usable else None)


def build(
    estimators: Sequence[Estimator],
    outer_optimizer: optax.GradientTransformation | SearchStrategy,
    *,
    steps_per_dispatch: int,
    devices: Sequence[jax.Device] | None = None,
) -> Engine:
    """Builds the engine. An outer step averages the gradients of all estimators, each of them one task.

    Random numbers depend on seed, outer step, estimator and particle only: not on the devices or the dispatches.

    Args:
      estimators: one per task.
      outer_optimizer: updates theta; gets the mean loss as `value=`. Or a search, which gets the loss of each of its
        candidates; theta is then its answer so far, and the metrics are means over the candidates.
      steps_per_dispatch: the most outer steps that one call of `run` makes.
      devices: where to run. By default as many of `jax.devices()` as divide the particles evenly.

    Raises:
      ValueError: if there is no estimator, or the particles do not divide evenly among the given devices, or so that
        every process of a distributed run has some.
    """
    if not estimators:
        raise ValueError("meta-training needs at least one estimator, got none.")
    if steps_per_dispatch < 1:
        raise ValueError(f"steps_per_dispatch must be at least 1, got {steps_per_dispatch}.")
    mesh = jax.sharding.Mesh(np.asarray(_choose_devices(estimators, devices)), (_AXIS,))
    replicated, sharded = jax.P(), jax.P(_AXIS)
    specs = EngineState(replicated, replicated, replicated, sharded)
    data = _put_once(tuple(e.data for e in estimators), jax.sharding.NamedSharding(mesh, replicated))
    kind = searching if isinstance(outer_optimizer, SearchStrategy) else descending
    begin, update = kind(estimators, outer_optimizer, _AXIS)

    @functools.partial(jax.jit, inline=True)  # traced once, for its shapes and for the loop
    def outer_step(state, key, data):
        key = jax.random.fold_in(key, state.step)
        rest, gradient, infos = update(key, state.theta, state.outer_state, state.estimator_states, data)
        task_losses = jnp.stack([info.loss for info in infos])
        grad_norm = optax.tree.norm(gradient)
        variance = jnp.asarray(sum(info.gradient_variance for info in infos) / len(infos) ** 2, jnp.float32)
        metrics = Metrics(
            jnp.mean(task_losses),
            task_losses,
            grad_norm,
            sum(info.dropped for info in infos),
            sum(info.inner_steps for info in infos),
            variance,
            jnp.square(grad_norm.astype(jnp.float32)) / variance,
            reported(rest[1]),
        )
        return EngineState(state.step + 1, *rest), metrics

    def dispatch(state, seed, num_steps, data):
        key = jax.random.fold_in(jax.random.key(seed), 1)
        shapes = jax.eval_shape(outer_step, state, key, data)[1]
        rows = jax.tree.map(lambda x: jnp.zeros((steps_per_dispatch, *x.shape), x.dtype), shapes)

        def body(i, carry):
            state, rows = carry
            state, metrics = outer_step(state, key, data)
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, metrics)

        return jax.lax.fori_loop(0, num_steps, body, (state, rows))

    # The replicated outputs are equal on all devices by construction; check_vma cannot see it through the optimizers.
    compiled = jax.jit(
        jax.shard_map(
            dispatch,
            mesh=mesh,
            in_specs=(specs, replicated, replicated, replicated),
            out_specs=(specs, replicated),
            check_vma=False,
        ),
        donate_argnums=0,
    )

    def start(theta, seed):
        key = jax.random.fold_in(jax.random.key(seed), 0)
        theta = jax.tree.map(jnp.copy, theta)  # not the caller's memory, for run takes it
        return EngineState(jnp.zeros((), jnp.int32), *begin(key, theta))

    shardings = EngineState(*(jax.sharding.NamedSharding(mesh, spec) for spec in specs))
    quickly = _QUICK_TO_COMPILE if mesh.devices.flat[0].platform == "cpu" else None  # it runs once
    compiled_start = jax.jit(start, out_shardings=shardings, compiler_options=quickly)

    compilations: list[concurrent.futures.Future] = []  # of what `run` needs, while `init` compiles and runs
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings.theta)
    on_host = getattr(outer_optimizer, "on_host", None)  # of a search that cannot be compiled as a whole

    def after_host(state):
        outer_state = on_host(jax.tree.map(np.asarray, state.outer_state))
        theta, outer_state = copy((outer_optimizer.best(outer_state), outer_state))
        return state._replace(theta=theta, outer_state=outer_state)

    def init(theta, seed, ahead=True):
        # As NumPy arrays, which every process of a distributed run may pass to a program on all devices.
        arguments = jax.tree.map(np.asarray, theta), np.uint32(seed)
        if ahead and not compilations:  # what has been compiled is there when the program is called
            lowered = lower(_placed(jax.eval_shape(start, *arguments), shardings))
            compilations.append(parallel.aside(lowered.compile))
        state = compiled_start(*arguments)
        return state if on_host is None else after_host(state)

    def ready():
        for compilation in compilations:
            compilation.result()

    def run(state, seed, num_steps):
        if not 1 <= num_steps <= steps_per_dispatch:
            raise ValueError(f"num_steps must lie between 1 and {steps_per_dispatch}, got {num_steps}.")
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
            raise ValueError("run takes the memory of the state it is given: go on with the state that it returned.")
        ready()
        if on_host is None:
            return compiled(state, np.uint32(seed), np.int32(num_steps), data)
        singles = []
        for _ in range(num_steps):
            state, rows = compiled(state, np.uint32(seed), np.int32(1), data)
            state = after_host(state)
            singles.append(jax.tree.map(lambda x: np.asarray(x[:1]), rows))
        rest = jax.tree.map(lambda x: np.asarray(x[num_steps:]), rows)
        return state, jax.tree.map(lambda *x: np.concatenate(x), *singles, rest)

    def lower(state):
        return compiled.lower(state, np.uint32(0), np.int32(1), data)

    return Engine(init, ready, run, lower, mesh)


def _placed(shapes, shardings):
    """Abstract arrays with their shardings, as `jit` sees the arrays that it made."""
    place = lambda sharding, tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding, weak_type=x.weak_type), tree
    )
    return jax.tree.map(place, shardings, shapes)


def _put_once(data, sharding):
    """Moves arrays to the devices; one that several tasks share is there once."""
    by_identity = {id(leaf): leaf for leaf in jax.tree.leaves(data)}
    placed = {identity: jax.device_put(leaf, sharding) for identity, leaf in by_identity.items()}
    return jax.tree.map(lambda leaf: placed[id(leaf)], data)


def _choose_devices(estimators, devices):
    counts = [estimator.num_particles for estimator in estimators]
    if devices is None:
        chosen = jax.devices()[: math.gcd(len(jax.devices()), *counts)]
        if len({device.process_index for device in chosen}) < jax.process_count():
            raise ValueError(
                f"particles must divide evenly among the processes, got num_particles {counts} for "
                f"{jax.process_count()} processes with {len(jax.devices())} devices in all: choose multiples of "
                f"{len(jax.devices())}, or start fewer processes."
            )
        return chosen
    if not devices:
        raise ValueError("devices must name at least one device, got none. None takes those that JAX has.")
    if any(count % len(devices) for count in counts):
        raise ValueError(
            f"particles must divide evenly among the devices, got num_particles {counts} on {len(devices)} devices: "
            f"choose multiples of {len(devices)}, or give fewer devices."
        )
    return devices
