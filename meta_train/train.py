"""`fit`: the meta-training loop, with metrics, checkpoints and resume."""

from collections.abc import Sequence
import contextlib
import hashlib
import json
import os
import pathlib
import signal
import threading
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import tqdm

from meta_train import distributed
from meta_train import engine
from meta_train import tensorboard as events
from meta_train.estimators.base import Estimator
from meta_train.search.base import SearchStrategy


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
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    clip_norm: float | None = 1.0,
    steps_per_dispatch: int = 10,
    checkpoint_seconds: float = 5.0,
    progress: bool = True,
    tensorboard: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> FitResult:
    """Meta-trains theta.

    Args:
      estimators: an estimator, or one for each task; an outer step averages their gradients.
      theta: initial meta-parameters, a pytree of floating-point arrays, such as `LearnedOptimizer.init` gives.
      outer_optimizer: any optax transformation with final updates; it gets the mean loss as `value=` and those of all
        estimators as `task_losses=`. Or a search of `meta_train.search`, which gets the estimators' losses for each of
        its candidates (`search.episodes` makes estimators that give losses only); the metrics are then means over the
        candidates.
      num_steps: outer steps in all. A resumed run makes those that are missing.
      seed: of everything random in the run, 0 … 2**32 - 1.
      run_dir: where to keep `metrics.jsonl` and the folder `checkpoints`; made if missing. None keeps nothing.
      resume: whether to go on from the last checkpoint in run_dir, if there is one. The result is bit for bit that
        of a run that was not interrupted, on the same machine, devices and versions.
      clip_norm: the gradient is scaled down to this global norm before the outer optimizer sees it. None: never. A
        search gets its gradients as they are.
      steps_per_dispatch: outer steps between two looks at the metrics.
      checkpoint_seconds: time between two checkpoints; this is what a killed run loses at most.
      progress: whether to show a progress bar with the loss and inner steps a second.
      tensorboard: whether to write the metrics as TensorBoard's event files too, to the folder `tensorboard` in
        run_dir; needs the extra `tensorboard`. Steps are outer steps; a resumed run has each of them once.
      devices: where to run; see `meta_train.engine.build`.

    Returns:
      A `FitResult`. Each metrics dict has `step`, `loss`, `loss/NAME` for each task, `grad_norm` (before clipping),
      `dropped` particles, `inner_steps`, `gradient_variance` (of the gradient before clipping: the trace of its
      covariance, by the spread of the particles) and `snr` (the gradient's squared norm over it), None where a task has
      a single particle, `outer/NAME` for what the outer optimizer reports of itself, such as the safeguards of
      `safeguards.safeguarded`, and `seconds` since this session began, compilation included.

    Raises:
      ValueError: if an argument is out of range, theta holds a non-finite number, run_dir holds a run and resume is
        False, or it holds a run with another theta, seed, tasks, number of particles or kind of outer optimizer.
        (Settings that change no shape, such as std or a learning rate, are not compared: keep them as they were.)
      ModuleNotFoundError: if tensorboard is True and tensorboardX is not installed.
      TypeError: if theta holds numbers that are not floating-point.
      KeyboardInterrupt: on Ctrl-C, when the dispatch is through and a last checkpoint made; a second Ctrl-C stops at
        once, and what came after the last checkpoint is lost.

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
    _check_arguments(num_steps, seed, clip_norm, theta, [estimator.name for estimator in estimators])
    if tensorboard:
        if run_dir is None:
            raise ValueError("tensorboard=True writes its files to run_dir, got None: give a folder.")
        events.require()
    if clip_norm is not None and not isinstance(outer_optimizer, SearchStrategy):
        outer_optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), outer_optimizer)
    run_engine = engine.build(estimators, outer_optimizer, steps_per_dispatch=steps_per_dispatch, devices=devices)
    state = run_engine.init(theta, seed)
    store = None if run_dir is None else _Store(pathlib.Path(run_dir), _fingerprint(state, estimators, seed), resume)
    metrics: list[dict[str, Any]] = []
    if store is not None:
        state, metrics = store.restore(state)

    step = int(state.step)
    if step > num_steps:
        raise ValueError(f"{run_dir} holds a run of {step} outer steps already, more than num_steps={num_steps}.")
    names = [estimator.name for estimator in estimators]
    began = last_saved = time.monotonic()
    shown = progress and distributed.is_main()
    bar = tqdm.tqdm(total=num_steps, initial=step, unit="step", disable=not shown, dynamic_ncols=True)
    writer = None
    if tensorboard and distributed.is_main():
        writer = events.start(pathlib.Path(run_dir) / "tensorboard", metrics)
    closing = contextlib.nullcontext() if writer is None else contextlib.closing(writer)
    with closing, bar, _deferred_interrupts() as interrupts:
        while step < num_steps and not interrupts:
            count = min(steps_per_dispatch, num_steps - step)
            dispatched = time.monotonic()
            state, rows = run_engine.run(state, seed, count)
            rows = jax.tree.map(np.asarray, rows)
            now = time.monotonic()
            records = _records(rows, names, step, count, now - began)
            metrics += records
            step += count
            rate = rows.inner_steps.sum() / (now - dispatched)
            bar.set_postfix_str(f"loss {records[-1]['loss']:.3f}, {rate:,.0f} inner steps/s", refresh=False)
            bar.update(count)
            if store is not None:
                store.log(records)
                if writer is not None:
                    events.add(writer, records, rate)
                if distributed.decision_of_main(now - last_saved >= checkpoint_seconds):
                    store.save(step, state)
                    last_saved = time.monotonic()
    if store is not None:
        store.close(step, state)
    if interrupts:
        raise KeyboardInterrupt
    return FitResult(jax.tree.map(np.asarray, state.theta), metrics)


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


class _Store:
    """The files of a run: `run.json` says what run it is, `metrics.jsonl` and `checkpoints` how far it came."""

    def __init__(self, folder, fingerprint, resume):
        folder.mkdir(parents=True, exist_ok=True)
        identity, self._metrics = folder / "run.json", folder / "metrics.jsonl"
        if identity.exists():
            if not resume:
                raise ValueError(
                    f"{folder} already holds a run: pass resume=True (--resume) to go on with it, or choose another "
                    "folder."
                )
            held = json.loads(identity.read_text())
            differing = sorted(key for key in fingerprint if held.get(key) != fingerprint[key])
            if differing:
                raise ValueError(
                    f"{folder} holds another run, whose {', '.join(differing)} differ: to resume, give the same "
                    "estimators, theta, outer optimizer and seed; otherwise choose another folder."
                )
        self._manager = ocp.CheckpointManager(
            (folder / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False),
        )
        distributed.wait_for_all("the folder was looked at")
        _write(identity, json.dumps(fingerprint, indent=2) + "\n")

    def restore(self, state):
        """Returns the state of the last checkpoint, or the one given, and the metrics up to there."""
        step = self._manager.latest_step()
        if step is not None:
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(_to_dict(state)))
            leaves = [_like(old, restored[k]) for old, k in zip(jax.tree.leaves(state), sorted(restored), strict=True)]
            state = jax.tree.unflatten(jax.tree.structure(state), leaves)
        done = step or 0
        lines = self._metrics.read_text(errors="replace").splitlines(keepends=True) if self._metrics.exists() else []
        kept = lines[:done]  # a killed run may have logged more steps than it saved
        _write(self._metrics, "".join(kept))
        return state, [json.loads(line) for line in kept]

    def log(self, records):
        if not distributed.is_main():
            return
        with self._metrics.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def save(self, step, state):
        self._manager.save(step, args=ocp.args.StandardSave(_to_dict(state)))

    def close(self, step, state):
        if self._manager.latest_step() != step and step > 0:
            self.save(step, state)
        self._manager.close()


def _write(path, text):
    """Replaces a file in one step, in process 0."""
    if distributed.is_main():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, path)


def _to_dict(state):
    return {f"{i:04}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _plain(leaf):
    """An array that can be stored: a random key as its integers, anything else as it is."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _like(old, stored):
    """Undoes `_plain`, for a leaf that stands where `old` stood."""
    is_key = jnp.issubdtype(old.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(old)) if is_key else stored


def _fingerprint(state, estimators, seed):
    """What must agree for a run to be resumed: seed, tasks, the shapes of the initial state, and theta's numbers."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((state.theta, state.outer_state)):
        digest.update(np.asarray(_plain(leaf)).tobytes())
    return {
        "seed": int(seed),
        "tasks": [estimator.name for estimator in estimators],
        "particles": [estimator.num_particles for estimator in estimators],
        "structure": str(jax.tree.structure(state)),
        "shapes": [list(leaf.shape) for leaf in jax.tree.leaves(state)],
        "theta": digest.hexdigest(),
    }


def _records(rows, names, step, count, seconds):
    return [
        {
            "step": step + i + 1,
            "loss": float(rows.loss[i]),
            **{f"loss/{name}": float(loss) for name, loss in zip(names, rows.task_losses[i], strict=True)},
            "grad_norm": float(rows.grad_norm[i]),
            "dropped": int(rows.dropped[i]),
            "inner_steps": int(rows.inner_steps[i]),
            "gradient_variance": _known(rows.gradient_variance[i]),
            "snr": _known(rows.snr[i]),
            **{f"outer/{name}": _plain_number(values[i]) for name, values in rows.outer.items()},
            "seconds": round(seconds, 3),
        }
        for i in range(count)
    ]


def _known(value):
    """A diagnostic as JSON has it: null where it is not known, or infinite."""
    return float(value) if np.isfinite(value) else None


def _plain_number(value):
    """An int, a float or None, or a list of them."""
    if value.ndim:
        return [_plain_number(x) for x in value]
    return int(value) if np.issubdtype(value.dtype, np.integer) else _known(value)


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
