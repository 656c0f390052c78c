"""Training runs of one task side by side, in one program that every evaluation and every tuning uses.

A run is a lane of the program; lanes differ in seed and hyperparameters. The length of the runs, the steps at which
held-out metrics are taken, the data, and the number of steps that the optimizer is told are arguments. So one
compilation serves all horizons. The key of a step depends only on the seed and the step's number. So a run is
the beginning of a longer one, bit for bit, unless the optimizer is told another number of steps.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.tasks.base import Task
from meta_train.unroll.inner_step import inner_step

# Seeds of two streams of random keys: results are reported on other draws than those that rates are tuned on.
REPORT, TUNE = 0x5EED0001, 0x5EED0002


class Start(NamedTuple):
    """The starting point of runs; each leaf has a leading axis of lanes."""

    config: Any  # what the task drew
    params: Any
    train_key: jax.Array
    evaluate_key: jax.Array


class MakeOptimizerFn(Protocol):
    """Makes an optimizer for hyperparameters and a number of steps."""

    def __call__(self, hyperparameters: Any, num_steps: Any, /) -> optax.GradientTransformation:
        """Makes it.

        Args:
          hyperparameters: a learning rate float32[], or a pytree of such numbers, possibly traced. Optimizers that are
            not tuned ignore it.
          num_steps: int32[], possibly traced, the number of steps that the optimizer is told. Those without a schedule
            ignore it.

        Returns:
          An optax transformation with final updates; it gets the loss as `value=`.
        """
        ...


class JudgedParamsFn(Protocol):
    """Gives the parameters whose losses are reported, for optimizers that take gradients elsewhere."""

    def __call__(self, state: Any, params: Any, /) -> Any:
        """Gives them.

        Args:
          state: the optimizer's state.
          params: the inner parameters at which gradients are taken.

        Returns:
          Parameters with the structure of params.
        """
        ...


class BeginFn(Protocol):
    """Makes the starting points of runs."""

    def __call__(self, keys: jax.Array, /) -> Start:
        """Makes them.

        Args:
          keys: key[lanes], see `keys`.
        """
        ...


class TrainFn(Protocol):
    """Makes the runs."""

    def __call__(
        self,
        hyperparameters: Any,
        start: Start,
        marks: Sequence[int],
        num_steps: int,
        held_out: bool = True,
        data: Any = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Makes them.

        Args:
          hyperparameters: those of each run: a pytree with the structure of the program's, of float32[lanes, …].
          start: what `begin` returned.
          marks: increasing numbers of steps at which held-out metrics are taken; the last one is the runs' length.
          num_steps: the number of steps that the optimizer is told.
          held_out: whether to take held-out metrics; otherwise they are zero, and cost nothing.
          data: in place of the task's data, with the same shapes; None for the task's.

        Returns:
          `(losses, held_out)`, as NumPy arrays: losses float32[lanes, marks[-1]], the training loss of each step's
          minibatch before the update, and held-out metrics, each float32[marks, lanes].

        Raises:
          ValueError: if there are too many marks, or they do not increase from 1 on to at most the program's size.
        """
        ...


class Starter(NamedTuple):
    """Makes starting points.

    Fields:
      begin: `(keys) -> Start`, compiled.
      text: `() -> str`, the program before compilation.
    """

    begin: BeginFn
    text: Callable[[], str]


class Lanes(NamedTuple):
    """Runs side by side.

    Fields:
      begin: `(keys) -> Start`, for key[lanes].
      train: `(hyperparameters, start, marks, num_steps, held_out=True, data=None) -> (losses, held_out)`, see
        `TrainFn`.
      compile: `() -> None`. Compiles now what `train` compiles when it is first called.
      text: `() -> str`, the programs before compilation.
      state_bytes: `() -> int`, size of the optimizer's state in one lane.
      width: how many lanes there are.
    """

    begin: BeginFn
    train: TrainFn
    compile: Callable[[], None]
    text: Callable[[], str]
    state_bytes: Callable[[], int]
    width: int


def starter(task: Task) -> Starter:
    """Draws tasks and initial parameters, in a program that all optimizers share: compiling it is half of the time."""

    @jax.vmap
    def begin(key):
        sample_key, init_key, train_key, evaluate_key = jax.random.split(key, 4)
        config = task.sample(sample_key)
        return Start(config, task.init(init_key, config), train_key, evaluate_key)

    compiled = jax.jit(begin)
    return Starter(compiled, functools.cache(lambda: compiled.lower(keys(1, REPORT)).as_text()))


def build(
    task: Task,
    make: MakeOptimizerFn,
    *,
    width: int,
    size: int,
    num_marks: int = 1,
    judged: JudgedParamsFn | None = None,
    starts: Starter | None = None,
    like: Any = 0.0,
) -> Lanes:
    """Builds the program; nothing is traced before it is needed.

    Args:
      task: what to train.
      make: `(hyperparameters, num_steps) -> optax transformation`, see `MakeOptimizerFn`; both are traced scalars, or
        pytrees of these.
      width: number of lanes.
      size: the most steps that a run makes.
      num_marks: how often held-out metrics are taken, at most.
      judged: `(optimizer's state, params) -> params` whose losses are reported, for optimizers that take gradients
        elsewhere, such as Schedule-Free ones. None: the parameters themselves.
      starts: from `starter`, to share it with other programs of the task.
      like: hyperparameters of one lane, such as a learning rate. Only the structure of the pytree and the shapes count.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> lanes = build(tasks.get("quadratic"), lambda rate, num_steps: optax.sgd(rate), width=2, size=30, num_marks=2)
      >>> losses, held_out = lanes.train([0.1, 0.2], lanes.begin(keys(2, REPORT)), (10, 20), 20)
      >>> losses.shape, held_out["loss"].shape
      ((2, 20), (2, 2))
    """
    starts = starts or starter(task)

    @functools.cache
    def lowered():
        start = jax.eval_shape(starts.begin, keys(width, REPORT))
        hyperparameters = jax.tree.map(lambda x: np.zeros((width, *np.shape(x)), np.float32), like)
        marks = np.zeros(num_marks, np.int32)
        return jax.jit(_program(task, make, size, judged)).lower(hyperparameters, start, marks, 1, True, task.data)

    @functools.cache
    def compiled():
        return lowered().compile()

    def train(hyperparameters, start, marks, num_steps, held_out=True, data=None):
        if list(marks) != sorted(set(marks)) or not 1 <= marks[0] <= marks[-1] <= size or len(marks) > num_marks:
            raise ValueError(f"marks must be at most {num_marks}, increasing from 1 to at most {size}, got {marks}.")
        padded = np.array([*marks, *[marks[-1]] * (num_marks - len(marks))], np.int32)
        values = jax.tree.map(lambda _, values: np.asarray(values, np.float32), like, hyperparameters)
        arguments = (values, start, padded, num_steps, held_out, task.data if data is None else data)
        losses, metrics = jax.tree.map(np.asarray, compiled()(*arguments))
        return np.ascontiguousarray(losses[: marks[-1]].T), {key: x[: len(marks)] for key, x in metrics.items()}

    def state_bytes():
        start = jax.eval_shape(starts.begin, keys(1, REPORT))
        point = jax.tree.map(lambda _: jnp.zeros(()), like)
        state = jax.eval_shape(lambda start: make(point, 1).init(jax.tree.map(lambda x: x[0], start.params)), start)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))

    text = lambda: starts.text() + lowered().as_text()
    return Lanes(starts.begin, train, lambda: compiled() and None, text, state_bytes, width)


def keys(num_seeds: int, stream: int) -> jax.Array:
    """A key for each seed, of one of the two streams: key[num_seeds]. A seed's key does not depend on their number."""
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(stream), seed))(jnp.arange(num_seeds))


def final_losses(losses: np.ndarray) -> np.ndarray:
    """Mean over the last tenth of the steps (last axis), at least one; infinite where it is NaN."""
    tail = losses[..., -max(1, losses.shape[-1] // 10) :].mean(axis=-1)
    return np.where(np.isnan(tail), np.inf, tail)


def _program(task, make, size, judged):
    def train(hyperparameters, start, marks, num_steps, wanted, data):

        @functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
        def step(point, lane, moving, number):
            params, state = moving
            key = jax.random.fold_in(lane.train_key, number)
            made = inner_step(lambda p: task.loss(p, key, data, lane.config), make(point, num_steps), params, state)
            reported = made.loss if judged is None else task.loss(judged(state, params), key, data, lane.config)
            reported = (reported / task.loss_scale(lane.config)).astype(jnp.float32)
            return (made.params, made.opt_state), reported

        @jax.vmap
        def evaluate(lane, moving):
            params, state = moving
            params = params if judged is None else judged(state, params)
            return task.evaluate(params, lane.evaluate_key, data, lane.config)

        def nothing(lane, moving):
            return jax.tree.map(jnp.zeros_like, jax.eval_shape(evaluate, lane, moving))

        def body(number, carry):
            moving, losses = carry
            moving, loss = step(hyperparameters, start, moving, number)
            return moving, jax.lax.dynamic_update_index_in_dim(losses, loss, number, 0)

        def segment(carry, ends):
            first, end = ends
            carry = jax.lax.fori_loop(first, end, body, carry)
            news = wanted & (first < end)  # marks that only fill up are not evaluated
            return carry, jax.lax.cond(news, evaluate, nothing, start, carry[0])

        init = jax.vmap(lambda point, params: make(point, num_steps).init(params))
        moving = start.params, init(hyperparameters, start.params)
        losses = jnp.zeros((size, len(start.train_key)), jnp.float32)
        segments = jnp.concatenate([jnp.zeros(1, jnp.int32), marks[:-1]]), marks
        (_, losses), held_out = jax.lax.scan(segment, (moving, losses), segments)
        return losses, held_out  # [size, lanes], each [marks, lanes]

    return train
