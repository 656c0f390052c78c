"""The compiled outer step: estimate, average over tasks, update theta, with particles spread over all devices.

One dispatch is one compiled program that makes several outer steps, or one program for each task in turn. State is
donated and never leaves the devices. Data, seed and the number of steps are arguments, so that changing them compiles
nothing again.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import pathlib
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import numpy as np
import optax

from meta_train.estimators.base import Estimator
from meta_train.host import parallel
from meta_train.host.cache_folder import cache_folder
from meta_train.host.cache_folder import is_writable
from meta_train.outer.search.base import SearchStrategy
from meta_train.training import placement
from meta_train.training import programs
from meta_train.training.outer_step import outer_rule
from meta_train.training.programs import EngineState as EngineState
from meta_train.training.programs import Metrics as Metrics


class EngineInitFn(Protocol):
    """Makes the state before the first outer step."""

    def __call__(self, theta: Any, seed: int, ahead: bool = True) -> EngineState:
        """Makes the state.

        Args:
          theta: initial meta-parameters.
          seed: of everything random in the run.
          ahead: whether to compile `run` in a thread meanwhile.
        """
        ...


class ReadyFn(Protocol):
    """Waits for the compilation that `init` began."""

    def __call__(self) -> None:
        """Returns when it is done; raises what it raised."""
        ...


class RunFn(Protocol):
    """Makes outer steps."""

    def __call__(self, state: EngineState, seed: int, num_steps: int) -> tuple[EngineState, Metrics]:
        """Makes the steps.

        Args:
          state: what `init` or the last `run` returned. It can be used once: `run` takes its memory.
          seed: that of `init`.
          num_steps: outer steps to make, from 1 to `steps_per_dispatch`.

        Returns:
          `(state, metrics)`, each metric with a leading axis of `steps_per_dispatch`, zero from num_steps on.
        """
        ...


class LowerFn(Protocol):
    """Lowers what `run` runs, to look at the programs, their memory and their cost."""

    def __call__(self, state: EngineState) -> Iterator[jax.stages.Lowered]:
        """Lowers it for a state, whose arrays may be abstract: one program, or one for each task."""
        ...


class Engine(NamedTuple):
    """The compiled functions of a run.

    Fields:
      init: `(theta, seed, ahead=True) -> EngineState`. Meanwhile `run` is compiled in a thread, unless ahead is False.
      ready: `()`. Returns when that is done; raises what it raised.
      run: `(state, seed, num_steps) -> (state, Metrics)`. Makes num_steps outer steps, at most `steps_per_dispatch`,
        and takes the memory of the state it is given: a state can be used once. Rows of the metrics from num_steps on
        are zero.
      lower: `(state) -> iterator of jax.stages.Lowered`, to look at the program, its memory and its cost; one for each
        task if each has its own.
      mesh: the one-axis mesh of devices in use.
    """

    init: EngineInitFn
    ready: ReadyFn
    run: RunFn
    lower: LowerFn
    mesh: jax.sharding.Mesh


def cache_compilations() -> None:
    """Keeps compiled programs on disk, so that a run that was made before starts in a second or two.

    They go to the folder that `JAX_COMPILATION_CACHE_DIR` names, or else to `learned_optim` in the user's cache folder.
    If that folder cannot be made or written to, a line on stderr says so, and nothing is kept.
    """
    named = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]  # set at run time
    folder = str(cache_folder()) if named is None else named
    is_remote = "://" in folder
    usable = is_remote or is_writable(pathlib.Path(folder))
    jax.config.update("jax_compilation_cache_dir", folder if usable else None)


def build(
    estimators: Sequence[Estimator],
    outer_optimizer: optax.GradientTransformation | SearchStrategy,
    *,
    steps_per_dispatch: int,
    devices: Sequence[Any] | None = None,
    program_per_task: bool = False,
) -> Engine:
    """Builds the engine. An outer step averages the gradients of all estimators, each of them one task.

    Random numbers depend on seed, outer step, estimator and particle only, not on the devices or the dispatches.

    Args:
      estimators: one per task.
      outer_optimizer: updates theta; it gets the mean loss as `value=`. Or a search, which gets the loss of each of its
        candidates; theta is then its answer so far, and the metrics are means over the candidates.
      steps_per_dispatch: the most outer steps that one call of `run` makes.
      devices: where to run, a sequence of `jax.Device`. By default as many of `jax.devices()` as divide the particles
        evenly.
      program_per_task: see `fit`.

    Raises:
      ValueError: if there is no estimator, or the particles do not divide evenly among the given devices, or so that
        every process of a distributed run has some.
    """
    if not estimators:
        raise ValueError("meta-training needs at least one estimator, got none.")
    if steps_per_dispatch < 1:
        raise ValueError(f"steps_per_dispatch must be at least 1, got {steps_per_dispatch}.")
    mesh = jax.sharding.Mesh(np.asarray(placement.choose_devices(estimators, devices)), (programs.AXIS,))
    data = placement.put_once(tuple(e.data for e in estimators), jax.sharding.NamedSharding(mesh, jax.P()))
    rule = outer_rule(estimators, outer_optimizer, programs.AXIS)
    compiled = programs.build(rule, mesh, steps_per_dispatch, program_per_task)
    after_host = None if rule.after_host is None else _host_part(rule.after_host, compiled.put)
    one_by_one = program_per_task or after_host is not None
    compilations: list[concurrent.futures.Future] = []  # of what `run` needs, while `init` compiles and runs

    def init(theta, seed, ahead=True):
        # As NumPy arrays, which every process of a distributed run may pass to a program on all devices.
        arguments = jax.tree.map(np.asarray, theta), np.uint32(seed)
        if ahead and not compilations:  # what has been compiled is there when the program is called
            lowered = lower(compiled.placed_state(*arguments))
            compilations.extend(parallel.aside(each.compile for each in lowered))
        state = compiled.start(*arguments)
        return state if after_host is None else after_host(state)

    def ready():
        for compilation in compilations:
            compilation.result()

    def dispatch(state, seed, num_steps):
        return compiled.dispatch(state, np.uint32(seed), np.int32(num_steps), data)

    def run(state, seed, num_steps):
        if not 1 <= num_steps <= steps_per_dispatch:
            raise ValueError(f"num_steps must lie between 1 and {steps_per_dispatch}, got {num_steps}.")
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
            raise ValueError("run takes the memory of the state it is given: go on with the state that it returned.")
        ready()
        if not one_by_one:
            return dispatch(state, seed, num_steps)
        return _run_one_by_one(dispatch, after_host, state, seed, num_steps, steps_per_dispatch)

    def lower(state):
        return compiled.lower(state, data)

    return Engine(init, ready, run, lower, mesh)


def _host_part(after_host, put):
    """What follows each outer step of a rule that is not compiled as a whole: `(state) -> state`."""

    def finish(state):
        theta, outer_state = put(after_host(jax.tree.map(np.asarray, state.outer_state)))
        return state._replace(theta=theta, outer_state=outer_state)

    return finish


def _run_one_by_one(dispatch, after_host, state, seed, num_steps, num_rows):
    """A dispatch for each outer step, with the part on the host after it; the result is that of one dispatch."""
    singles = []
    for _ in range(num_steps):
        state, rows = dispatch(state, seed, 1)
        state = state if after_host is None else after_host(state)
        singles.append(jax.tree.map(lambda x: np.asarray(x[:1]), rows))
    rest = jax.tree.map(lambda x: np.zeros((num_rows - num_steps, *x.shape[1:]), x.dtype), singles[0])
    return state, jax.tree.map(lambda *x: np.concatenate(x), *singles, rest)
