"""The folder of a run: `run.json` says what run it is, `metrics.jsonl` and `checkpoints` how far it came.

In a run of several processes, process 0 writes the files and holds the lock, and all read and save checkpoints.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from meta_train.host import distributed
from meta_train.training import run_lock
from meta_train.training import run_metrics


class RunFolder:
    """A run's files. `opened` makes one."""

    def __init__(self, path: pathlib.Path, manager: ocp.CheckpointManager) -> None:
        """Takes the folder's path and what manages its checkpoints."""
        self.path, self._manager = path, manager
        self._metrics = path / "metrics.jsonl"

    def latest_step(self) -> int:
        """Outer steps of the newest checkpoint, readable or not; 0 without one."""
        return self._manager.latest_step() or 0

    def identify(self, fingerprint: dict[str, Any]) -> None:
        """Writes down what run this is, or raises ValueError if the folder holds another one."""
        identity = self.path / "run.json"

        def agree():
            if identity.exists():
                _check_same(self.path, fingerprint)
            else:
                _write(identity, json.dumps(fingerprint, indent=2) + "\n")

        distributed.do_in_main(agree)

    def restore(self, state: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Goes back to the newest checkpoint that can be read and whose metrics are all there.

        Newer checkpoints are moved to the folder `set-aside`, with a warning. Metrics of later steps are dropped.

        Args:
          state: of the first step; gives structure, shapes, dtypes and shardings.

        Returns:
          `(state, metrics)` of the checkpoint, or the state given and no metrics if there is none.

        Raises:
          ValueError: if there are checkpoints, but none that can be used.
        """
        metrics, damage = _metrics_so_far(self._metrics)
        failures: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            if len(metrics) < step:
                failures[step] = damage or f"{self._metrics} ends before step {len(metrics) + 1}"
                continue
            try:
                restored, failure = self._read(step, state), None
            except Exception as error:  # damaged files lead to errors of many types
                restored, failure = None, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            if distributed.all_agree(failure is None):
                self._set_aside(failures, step)
                return restored, self._keep(metrics[:step])
            failures[step] = failure or "another process cannot read it"
        if failures:
            raise ValueError(
                f"{self.path} holds no checkpoint that can be used. {_listed(failures)}. Put the files back from a "
                "copy of the folder, or start again in another folder."
            )
        return state, self._keep([])

    def log(self, records: list[dict[str, Any]]) -> None:
        """Adds metrics of a dispatch."""
        if distributed.is_main():
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(run_metrics.to_text(records))

    def save(self, step: int, state: Any) -> None:
        """Saves a checkpoint, unless there is one of this step."""
        if self.latest_step() != step:
            self._manager.save(step, args=ocp.args.StandardSave(_to_dict(state)))

    def _read(self, step, state):
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(_to_dict(state)))
        leaves, structure = jax.tree.flatten(state)
        kept = {k: _like(leaves[int(k)], stored) for k, stored in restored.items()}
        return jax.tree.unflatten(structure, [kept.get(_name(i), leaf) for i, leaf in enumerate(leaves)])

    def _keep(self, metrics):
        if distributed.is_main():
            _write(self._metrics, run_metrics.to_text(metrics))
        return metrics

    def _set_aside(self, failures, step):
        if not failures:
            return
        aside = self.path / "set-aside"

        def move():
            aside.mkdir(exist_ok=True)
            for failed in failures:
                os.replace(self.path / "checkpoints" / str(failed), _unused(aside / str(failed)))

        distributed.do_in_main(move)
        self._manager.reload()
        if distributed.is_main():
            warnings.warn(
                f"the run in {self.path} goes on from checkpoint {step}, for what is newer cannot be used. "
                f"{_listed(failures)}. It was moved to {aside}.",
                stacklevel=5,  # where `fit` is called
            )


@contextlib.contextmanager
def opened(folder: str | os.PathLike[str], known: dict[str, Any], *, resume: bool) -> Iterator[RunFolder]:
    """Opens the folder of a run for this process alone, and closes it at the end.

    Args:
      folder: is made if missing.
      known: what is known already of the fingerprint, see `RunFolder.identify`.
      resume: whether it may hold a run.

    Raises:
      ValueError: if it is no folder that can be written to, another process is at work in it, or it holds a run and
        resume is False, or another run, or one whose `run.json` is missing or damaged.
    """
    path = pathlib.Path(folder)
    with contextlib.ExitStack() as stack:

        def look():
            with _as_value_error(path):
                (path / "checkpoints").mkdir(parents=True, exist_ok=True)
                stack.enter_context(run_lock.held(path))
            check(path, resume=resume)
            if (path / "run.json").exists():
                _check_same(path, known)

        distributed.do_in_main(look)
        manager = ocp.CheckpointManager(
            (path / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False),
            item_handlers=ocp.StandardCheckpointHandler(),  # not to be guessed from what may be damaged
        )
        stack.callback(manager.close)
        yield RunFolder(path, manager)


def check(folder: str | os.PathLike[str], *, resume: bool) -> None:
    """Raises ValueError if a folder, which need not exist, holds a run and resume is False, or parts of a run."""
    path = pathlib.Path(folder)
    if (path / "run.json").exists():
        if not resume:
            raise ValueError(
                f"{path} already holds a run: pass resume=True (--resume) to go on with it, or choose another folder."
            )
        return
    metrics = path / "metrics.jsonl"
    if any((path / "checkpoints").glob("[0-9]*")) or (metrics.exists() and metrics.stat().st_size > 0):
        raise ValueError(
            f"{path} holds metrics or checkpoints, but not the run.json that says of which run: put it back, or choose "
            "another folder."
        )


def plain(leaf):
    """An array that can be stored: a random key as its integers, anything else as it is."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _check_same(path, fingerprint):
    """Raises ValueError unless `run.json` says the same as a fingerprint, or a part of one."""
    identity = path / "run.json"
    try:
        held = json.loads(identity.read_text(encoding="utf-8", errors="replace"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{identity}, line {error.lineno}, is damaged: it is not JSON ({error.msg}). It says what run the folder "
            "holds: put it back from a copy of the folder, or start again in another folder."
        ) from None
    held = held if isinstance(held, dict) else {}
    differing = sorted(key for key in fingerprint if held.get(key) != fingerprint[key])
    if differing:
        raise ValueError(
            f"{path} holds another run, whose {', '.join(differing)} differ: to resume, give the same estimators, "
            "theta, outer optimizer and seed; otherwise choose another folder."
        )


@contextlib.contextmanager
def _as_value_error(path):
    try:
        yield
    except OSError as error:
        raise ValueError(f"run_dir (--out) must be a folder that can be written to, got {path}: {error}.") from error


def _metrics_so_far(path):
    try:
        return run_metrics.read_until_damage(path)
    except FileNotFoundError:
        return [], f"{path} is missing"


def _listed(failures):
    return "; ".join(f"checkpoint {step}: {failure}" for step, failure in failures.items())


def _unused(path):
    """A path that does not exist: this one, or with a number added."""
    others = (path.with_name(f"{path.name}-{i}") for i in range(1, 1000))
    return next(other for other in (path, *others) if not other.exists())


def _write(path, text):
    """Replaces a file by a complete one, or leaves it as it was."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_dict(state):
    """The leaves to store. Orbax refuses arrays without elements, and there is nothing to keep of them."""
    return {_name(i): plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.size}


def _name(number):
    return f"{number:04}"


def _like(old, stored):
    """Undoes `plain`, for a leaf that stands where `old` stood."""
    is_key = jnp.issubdtype(old.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(old)) if is_key else stored
