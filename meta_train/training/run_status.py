"""What a run does, by its files alone: whether it is going on, how far it came, how long it will take."""

from collections.abc import Iterator
from collections.abc import Sequence
import json
import math
import os
import pathlib
import time
from typing import Any
from typing import NamedTuple

from meta_train.training import metrics_sample
from meta_train.training import run_lock
from meta_train.training import run_session

RUNNING, STOPPED, FINISHED, DAMAGED = "running", "stopped", "finished", "damaged"
_THETA = "theta.safetensors"  # what the command `train` writes at the end of a run
_RECENT_STEPS = 100  # at most so many outer steps are averaged
_FRESH_SECONDS = 120.0  # where there are no locks: a run is taken to be going on if its files changed since then


class RunStatus(NamedTuple):
    """The state of a run.

    Fields:
      folder: of the run.
      state: "running", "stopped" before its end, "finished", or "damaged".
      process: which process is at work in it, as text; None if there is none, or that is not known.
      step: outer steps made.
      num_steps: of the whole run; None if it was begun by a version that did not write that down.
      loss: mean over the last twentieth of the steps, at most 100; None if there is none or none is finite.
      averaged: over how many steps that is.
      curve: losses from the first step to the last, averaged in about 60 places, NaN where none was finite.
      snr: mean of the meta-gradient's signal-to-noise ratio over the same steps as `loss`; None if it is not known.
      dropped: particles that were left out in these steps.
      task_losses: the mean over these steps for each task; None where none was finite.
      seconds: since this session of the run began, at its last step; None before the first one.
      seconds_left: estimated, of a run that is going on; None if that cannot be said yet.
      compiling: seconds since this session of a run that is going on began, as long as it has made no step.
      checkpoint_step: outer steps of the newest checkpoint; None without one.
      checkpoint_age: seconds since it was written.
      age: seconds since anything was written.
      damage: what is wrong with the files; None if nothing was found.
    """

    folder: pathlib.Path
    state: str
    process: str | None
    step: int
    num_steps: int | None
    loss: float | None
    averaged: int
    curve: tuple[float, ...]
    snr: float | None
    dropped: int
    task_losses: dict[str, float | None]
    seconds: float | None
    seconds_left: float | None
    compiling: float | None
    checkpoint_step: int | None
    checkpoint_age: float | None
    age: float
    damage: str | None


def read(folder: str | os.PathLike[str]) -> RunStatus:
    """Looks at the files of a run, which may be going on. Nothing in the folder is changed.

    Only a part of a long run's metrics is read, so that damage elsewhere is not found.

    Raises:
      ValueError: if the folder holds no run.
    """
    folder = pathlib.Path(folder)
    if not is_run(folder):
        raise ValueError(f"{folder} holds no run: give the folder that 'train --out' wrote to.")
    at_work = run_lock.at_work(folder)
    checkpoint_step, checkpoint_time = _checkpoint(folder)  # before the metrics, which are always further
    session = run_session.read(folder)
    num_steps = None if session is None else session.num_steps
    seen, written = _metrics(folder / "metrics.jsonl")
    now = time.time()
    last = max([written, checkpoint_time or 0.0, _changed(folder / run_session.FILE), _changed(folder / "lock")])
    age = max(0.0, now - (last or _changed(folder)))
    running = at_work or (at_work is None and age < _FRESH_SECONDS)
    step = seen.last[-1]["step"] if seen.last else 0
    begins = running and session is not None and step <= session.first_step
    damage = _damage(folder, seen, checkpoint_step or 0)
    finished = _is_finished(folder, num_steps, checkpoint_step or 0, written)
    at_rest = DAMAGED if damage else FINISHED if finished else STOPPED
    recent = seen.last[-max(1, min(_RECENT_STEPS, step // 20)) :]
    return RunStatus(
        folder=folder,
        state=RUNNING if running else at_rest,
        process=run_lock.holder(folder) if at_work else None,
        step=step,
        num_steps=num_steps,
        loss=_mean(recent, "loss"),
        averaged=len(recent),
        curve=tuple(seen.curve),
        snr=_mean(recent, "snr"),
        dropped=sum(each["dropped"] for each in recent if isinstance(each.get("dropped"), int)),
        task_losses={
            name.removeprefix("loss/"): _mean(recent, name)
            for name in (recent[-1] if recent else ())
            if name.startswith("loss/")
        },
        seconds=_number(seen.last[-1].get("seconds")) if seen.last else None,
        seconds_left=_seconds_left(seen.last, num_steps, max(0.0, now - written)) if running and not begins else None,
        compiling=max(0.0, now - session.began) if begins and session is not None else None,
        checkpoint_step=checkpoint_step,
        checkpoint_age=None if checkpoint_time is None else max(0.0, now - checkpoint_time),
        age=age,
        damage=damage,
    )


def is_run(folder: pathlib.Path) -> bool:
    """Whether a folder holds a run, or what is left of one."""
    if any((folder / name).is_file() for name in ("run.json", "metrics.jsonl")):
        return True
    return (folder / "lock").is_file() and (folder / "checkpoints").is_dir()


def find(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields the folders of all runs in a folder and below, in alphabetical order. Hidden folders are left out."""
    for place, folders, _ in os.walk(folder):
        if is_run(pathlib.Path(place)):
            folders.clear()
            yield pathlib.Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def size(folder: pathlib.Path) -> int:
    """Bytes of all files in a folder, as far as they can be looked at."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(place, file)).st_size
            except OSError:  # it was removed meanwhile
                continue
    return total


def _damage(folder, seen, checkpoint_step):
    """What is wrong with the files; None if nothing is. A run that has just begun has none of them."""
    step = seen.last[-1]["step"] if seen.last else 0
    if not (folder / "run.json").is_file():
        held = checkpoint_step or _has_content(folder / "metrics.jsonl")
        return "run.json is missing, which says of which run the files are" if held else None
    if not isinstance(_json(folder / "run.json"), dict):
        return "run.json is not JSON"
    if seen.damage is not None:
        return f"metrics.jsonl: {seen.damage}"
    if step < checkpoint_step:
        return f"metrics.jsonl ends after step {step}, before the checkpoint of step {checkpoint_step}"
    return None


def _is_finished(folder, num_steps, checkpoint_step, written):
    if num_steps is not None:
        return checkpoint_step >= num_steps
    return (folder / _THETA).is_file() and _changed(folder / _THETA) >= written


def _metrics(path):
    """What is seen of the metrics, and when they were written; 0 if there are none."""
    try:
        return metrics_sample.sample(path), path.stat().st_mtime
    except FileNotFoundError:
        return metrics_sample.Sample([], [], None), 0.0


def _checkpoint(folder):
    """Step and time of the newest checkpoint; None without one."""
    try:
        steps = [int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()]
        newest = max(steps, default=None)
        return newest, None if newest is None else _changed(folder / "checkpoints" / str(newest))
    except OSError:
        return None, None


def _seconds_left(records: Sequence[dict[str, Any]], num_steps: int | None, since: float) -> float | None:
    """By the pace of the last steps of this session: `seconds` begins anew in each."""
    if not records or num_steps is None:
        return None
    dispatches: dict[float, int] = {}  # the last step of each, by its seconds, from the newest to the oldest
    for record in reversed(records):
        seconds = _number(record.get("seconds"))
        if seconds is None or (dispatches and seconds > next(reversed(dispatches))):  # of an earlier session
            break
        dispatches.setdefault(seconds, record["step"])
    if len(dispatches) < 2:  # the time of the first one includes the compilation
        return None
    (end_seconds, end), *_, (begin_seconds, begin) = dispatches.items()
    if end <= begin:
        return None
    return max(0.0, (num_steps - end) * (end_seconds - begin_seconds) / (end - begin) - since)


def _mean(records, name):
    values = [value for value in (_number(record.get(name)) for record in records) if value is not None]
    return sum(values) / len(values) if values else None


def _number(value):
    """A finite number as a float, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _json(path):
    """The content of a JSON file, or None if there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _has_content(path):
    return path.is_file() and path.stat().st_size > 0


def _changed(path):
    """When a file was changed, or 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
