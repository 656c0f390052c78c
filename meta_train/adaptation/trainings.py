"""Trainings of one task with many thetas, side by side and on all devices, in one program for each device."""

from collections.abc import Sequence
import functools
import threading
import time
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from learned_optim import LearnedOptimizer
from meta_train.evaluation import lanes
from meta_train.host import parallel
from meta_train.tasks.base import Task

# Seeds of streams of random keys, beside `lanes.REPORT` and `lanes.TUNE`: the search sees the first, and which of its
# answers to take is chosen on the second.
SEARCH, CHOOSE = 0x5EED0003, 0x5EED0004
_MAX_PACE_STEPS, _PACE_SECONDS = 64, 0.25


class Made(NamedTuple):
    """Finished trainings."""

    losses: np.ndarray  # float32[trainings, steps], training loss of each step's minibatch before the update
    held_out: dict[str, np.ndarray]  # each float32[marks, trainings]


class RunFn(Protocol):
    """Trains."""

    def __call__(
        self, thetas: np.ndarray, keys: jax.Array, marks: Sequence[int], *, data: Any, held_out: bool = True
    ) -> Made:
        """Trains with each of some thetas.

        Args:
          thetas: float[trainings, numbers], raveled.
          keys: key[trainings], as of `lanes.keys`.
          marks: increasing numbers of steps at which held-out metrics are taken. The last one is the length of the
            runs, and the number of steps that the optimizer is told.
          data: the task's, or other data of the same shapes, as NumPy arrays.
          held_out: whether to take held-out metrics; otherwise they are zero.
        """
        ...


class Trainings(NamedTuple):
    """Programs that train a task, one for each device.

    Fields:
      run: `(thetas, keys, marks, *, data, held_out=True) -> Made`, see `RunFn`.
      pace: `() -> (compile_seconds, step_seconds)` on the device of the calling thread. The latter are the seconds of a
        step of one run, among those side by side.
      width: runs side by side on a device.
      parallel: runs at a time on all devices.
    """

    run: RunFn
    pace: Any
    width: int
    parallel: int


def build(task: Task, optimizer: LearnedOptimizer, theta: Any, *, width: int, size: int, num_marks: int) -> Trainings:
    """Builds the programs. Nothing is compiled before it is needed.

    Args:
      task: what to train. Its data are on the host.
      optimizer: the architecture.
      theta: an example; shapes alone count.
      width: runs side by side on a device.
      size: the most steps that a run makes.
      num_marks: how often held-out metrics are taken, at most.
    """
    flat, unravel = jax.flatten_util.ravel_pytree(theta)
    like, lock = [0.0] * flat.size, threading.Lock()

    def make(point, num_steps):
        return optimizer.transform(unravel(jnp.stack(point)), num_steps=num_steps)

    @functools.cache
    def program_on(device):
        del device  # what is compiled and put is where the thread has its default
        return lanes.build(task, make, width=width, size=size, num_marks=num_marks, like=like), {}

    def here():
        device = next(iter(jnp.zeros(()).devices()))
        with lock:
            return program_on(device)

    def on_device(kept, data):
        if id(data) not in kept:
            kept[id(data)] = data, jax.device_put(data)  # the original too, so that its id stays its own
        return kept[id(data)][1]

    def run(thetas, keys, marks, *, data, held_out=True):
        number = len(thetas)
        chunks = [slice(i, i + width) for i in range(0, number, width)]

        def work(chunk, stop_here):
            stop_here()
            program, kept = here()
            rows = np.arange(number)[chunk]
            rows = np.concatenate([rows, np.full(width - len(rows), rows[-1])])  # free lanes repeat the last run
            start = program.begin(keys[rows])
            point = list(np.asarray(thetas, np.float32)[rows].T)
            return program.train(point, start, tuple(marks), marks[-1], held_out, on_device(kept, data))

        found = {chunk.start: made for chunk, made in parallel.over_devices(work, chunks)}
        made = [found[chunk.start] for chunk in chunks]
        losses = np.concatenate([losses for losses, _ in made])[:number]
        metrics = {
            name: np.concatenate([metrics[name] for _, metrics in made], axis=1)[:, :number] for name in made[0][1]
        }
        return Made(losses, metrics)

    def pace():
        began = time.perf_counter()
        program, kept = here()
        start = jax.block_until_ready(program.begin(lanes.keys(width, SEARCH)))
        program.compile()
        compiled, data = time.perf_counter() - began, on_device(kept, task.data)
        point = list(np.repeat(np.asarray(flat)[:, None], width, axis=1))

        def seconds(steps):
            began = time.perf_counter()
            program.train(point, start, (steps,), max(steps, 2), False, data)
            return time.perf_counter() - began

        steps, most = 1, min(size, _MAX_PACE_STEPS)
        seconds(steps)  # which also loads the program
        while (taken := seconds(steps)) < _PACE_SECONDS and steps < most:
            steps = min(2 * steps, most)
        return compiled, taken / steps / width

    return Trainings(run, pace, width, width * len(jax.devices()))
