"""`fit`: the meta-training loop, with metrics, checkpoints and resume."""

from collections.abc import Sequence
import contextlib
import hashlib
import os
import signal
import threading
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators.base import Estimator
from meta_train.host import distributed
from meta_train.host.counted import counted
from meta_train.host.progress import bar as progress_bar
from meta_train.outer.search.base import SearchStrategy
from meta_train.training import engine
from meta_train.training import run_folder
from meta_train.training import run_metrics
from meta_train.training import run_session
from meta_train.training import tensorboard as events


class FitResult(NamedTuple):
    """What `fit` returns."""

    theta: Any  # the trained meta-parameters, as NumPy arrays
    metrics: list[dict[str, Any]]  # one dict per outer step, from the first one on, earlier sessions included


def fit(
    estimators: Estimator | Sequence[Estimator],
    theta: Any,
    outer_optimizer: optax.GradientTransformation | SearchStrategy,
    *,
    num_steps: int,
    seed: int = 0,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    clip_norm: float | None = 1.0,
    steps_per_dispatch: int = 10,
    checkpoint_seconds: float = 5.0,
    progress: bool = True,
    tensorboard: bool = False,
    devices: Sequence[Any] | None = None,
    program_per_task: bool = False,
) -> FitResult:
    """Meta-trains theta.

    Args:
      estimators: an estimator, or one for each task; an outer step averages their gradients.
      theta: initial meta-parameters, a pytree of floating-point arrays, such as `LearnedOptimizer.init` gives.
      outer_optimizer: any optax transformation with final updates; it gets the mean loss as `value=` and those of all
        estimators as `task_losses=`. Or a search of `meta_train.search`, which gets the estimators' losses for each of
        its candidates (`search.episodes` makes estimators that give losses only); the metrics are then means over the
        candidates.
      num_steps: number of outer steps of the whole run; inner steps are set by each estimator's horizon and
        unroll_length. A resumed run makes the steps that are missing.
      seed: of everything random in the run, 0 … 2**32 - 1.
      run_dir: where to keep `metrics.jsonl` and the folder `checkpoints`; made if missing. None keeps nothing. One run
        at a time works in a folder.
      resume: whether to go on from the last checkpoint in run_dir, if there is one. The result is bit for bit that
        of a run that was not interrupted, on the same machine, devices and versions. If the last checkpoint cannot be
        read, the run goes on from the one before, with a warning.
      clip_norm: the gradient is scaled down to this global norm before the outer optimizer sees it. None: never. A
        search gets its gradients without clipping.
      steps_per_dispatch: outer steps between two looks at the metrics.
      checkpoint_seconds: time between two checkpoints; this is what a killed run loses at most.
      progress: whether to show a progress bar with the loss and inner steps a second.
      tensorboard: whether to write the metrics as TensorBoard's event files too, to the folder `tensorboard` in
        run_dir; needs the extra `tensorboard`. Steps are outer steps; a resumed run has each of them once.
      devices: where to run, a sequence of `jax.Device`; see `meta_train.training.engine.build`.
      program_per_task: whether each task has a compiled program of its own. The random numbers are the same, the result
        differs by rounding. Tasks that take long to compile are then compiled side by side, see
        docs/meta-training-at-scale.md; each outer step starts a program for each task and waits for it.

    Returns:
      A `FitResult`. Each metrics dict has `step`, `loss`, `loss/NAME` for each task, `grad_norm` (before clipping),
      `dropped` particles, `inner_steps`, `gradient_variance` (of the gradient before clipping: the trace of its
      covariance, by the spread of the particles) and `snr` (the gradient's squared norm over it), None where a task has
      a single particle, `outer/NAME` for what the outer optimizer reports about itself, such as the safeguards of
      `safeguards.safeguarded`, and `seconds` since this session began, compilation included. Losses and `grad_norm` are
      NaN where they are not finite, and null in `metrics.jsonl`.

    Raises:
      ValueError: if an argument is out of range, theta holds a non-finite number, run_dir cannot be written to, another
        process is at work in it, it holds a run and resume is False, or it holds a run with another theta, seed, tasks,
        number of particles or kind of outer optimizer, or one whose files are damaged.
        (Settings that change no shape, such as std or a learning rate, are not compared: keep them as they were.)
      ModuleNotFoundError: if tensorboard is True and tensorboardX is not installed.
      TypeError: if theta holds numbers that are not floating-point.
      KeyboardInterrupt: on Ctrl-C, when the dispatch is through and a last checkpoint made; a second Ctrl-C stops at
        once, and what came after the last checkpoint is lost. While the run is being compiled the first one does.

    Example: theta is a step size, learned on quadratics.
      >>> import jax.numpy as jnp, optax, meta_train
      >>> problem = meta_train.Problem(
      ...     init=lambda key, theta, num_steps: jnp.ones(()),
      ...     step=lambda key, theta, w, data: (w - jnp.exp(theta) * w, (w - jnp.exp(theta) * w) ** 2),
      ... )
      >>> estimator = meta_train.estimators.truncated_backprop(
      ...     problem, num_particles=2, unroll_length=2, horizon=meta_train.truncation.constant(4))
      >>> result = fit(estimator, jnp.log(0.5), optax.adam(0.1), num_steps=50, progress=False)
      >>> bool(abs(result.theta - jnp.log(1.0)) < 0.3)
      True
    """
    estimators = (estimators,) if isinstance(estimators, Estimator) else tuple(estimators)
    names = [estimator.name for estimator in estimators]
    _check_arguments(num_steps, seed, clip_norm, theta, names)
    if tensorboard:
        if run_dir is None:
            raise ValueError("tensorboard=True writes its files to run_dir, got None: give a folder.")
        events.require()
    if clip_norm is not None and not isinstance(outer_optimizer, SearchStrategy):
        outer_optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), outer_optimizer)
    run_engine = engine.build(
        estimators,
        outer_optimizer,
        steps_per_dispatch=steps_per_dispatch,
        devices=devices,
        program_per_task=program_per_task,
    )
    known = {"seed": int(seed), "tasks": names, "particles": [estimator.num_particles for estimator in estimators]}
    with contextlib.ExitStack() as stack:
        folder = writer = None
        if run_dir is not None:  # before anything is compiled
            folder = stack.enter_context(run_folder.opened(run_dir, known, resume=resume))
        state, metrics = _start(run_engine, folder, theta, seed, num_steps, known)
        if tensorboard and folder is not None and distributed.is_main():
            writer = events.start(folder.path / "tensorboard", metrics)
            stack.callback(writer.close)
        state, interrupted = _go_on(
            run_engine,
            state,
            metrics,
            names,
            folder,
            writer,
            seed=seed,
            num_steps=num_steps,
            steps_per_dispatch=steps_per_dispatch,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
        if folder is not None:
            folder.save(int(state.step), state)
    if interrupted:
        raise KeyboardInterrupt
    return FitResult(jax.tree.map(np.asarray, state.theta), metrics)


def _start(run_engine, folder, theta, seed, num_steps, known):
    """The state to go on from, and the metrics up to there."""
    if folder is None:
        return run_engine.init(theta, seed), []
    done = folder.latest_step()
    if done > num_steps:
        held = counted(done, "outer step")
        raise ValueError(f"{folder.path} holds a run of {held} already, more than num_steps={num_steps}.")
    state = run_engine.init(theta, seed, ahead=done < num_steps)
    folder.identify(known | _fingerprint(state))
    state, metrics = folder.restore(state)
    if distributed.is_main():
        run_session.write(folder.path, num_steps=num_steps, first_step=len(metrics))
    return state, metrics


def _go_on(
    run_engine,
    state,
    metrics,
    names,
    folder,
    writer,
    *,
    seed,
    num_steps,
    steps_per_dispatch,
    checkpoint_seconds,
    progress,
):
    """Makes the outer steps that are missing, and adds to the metrics. Returns the state, and if it was stopped."""
    step, shown = int(state.step), progress and distributed.is_main()
    began = last_saved = dispatched = time.monotonic()
    with progress_bar(num_steps, unit="step", initial=step, disable=not shown) as bar:
        run_engine.ready()  # until here Ctrl-C ends the run at once
        with _deferred_interrupts() as interrupts:
            while step < num_steps and not interrupts:
                count = min(steps_per_dispatch, num_steps - step)
                state, rows = run_engine.run(state, seed, count)
                rows = jax.tree.map(np.asarray, rows)
                now = time.monotonic()
                records = run_metrics.records(rows, names, step, count, now - began)
                metrics += records
                step += count
                rate = rows.inner_steps.sum() / (now - dispatched)
                bar.set_postfix_str(f"loss {records[-1]['loss']:.3f}, {rate:,.0f} inner steps/s", refresh=False)
                bar.update(count)
                if folder is not None:
                    folder.log(records)
                    if writer is not None:
                        events.add(writer, records, rate)
                    if distributed.decision_of_main(now - last_saved >= checkpoint_seconds):
                        folder.save(step, state)
                        last_saved = time.monotonic()
                dispatched = time.monotonic()
    return state, bool(interrupts)


@contextlib.contextmanager
def _deferred_interrupts():
    """Yields a list that gets an entry at the first Ctrl-C, so that the loop can end with a whole step; the second
    Ctrl-C interrupts at once. Outside of the main thread, where Python has no signal handlers, and in a run of several
    processes, which would not stop at the same step, it stays empty."""
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield interrupts
        return

    def note(signum, frame):
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(signum)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, previous)


def _fingerprint(state):
    """What must agree for a run to be resumed, beside what is known before: shapes, and the numbers of theta."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((state.theta, state.outer_state)):
        digest.update(np.asarray(run_folder.plain(leaf)).tobytes())
    return {
        "structure": str(jax.tree.structure(state)),
        "shapes": [list(leaf.shape) for leaf in jax.tree.leaves(state)],
        "theta": digest.hexdigest(),
    }


def _check_arguments(num_steps, seed, clip_norm, theta, names):
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie between 0 and 2**32 - 1, got {seed}.")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, or None for no clipping, got {clip_norm}.")
    if len(set(names)) < len(names):
        raise ValueError(f"tasks must have different names, for the metrics to tell them apart, got {names}.")
    for path, leaf in jax.tree.leaves_with_path(theta):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"theta must be floating-point, but theta{jax.tree_util.keystr(path)} is {jnp.result_type(leaf)}: "
                "convert it first."
            )
        if not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"theta must be finite, but theta{jax.tree_util.keystr(path)} holds NaN or infinity.")
