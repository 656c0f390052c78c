"""The report that `meta-train few-shot` writes, and the names of its files."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import math
import pathlib
import platform
import sys
import time
from typing import Any

import jax
import numpy as np

from learned_optim import atomic_file
from meta_train.cli.few_shot_data import Setting
from meta_train.recipes.few_shot import Learner

THETA_FILE, REPORT_FILE = "theta.safetensors", "report.json"
CURVES_FILE, EPISODE_FILE = "curves.png", "episode.png"
SESSIONS_FILE = "sessions.json"


def note_session(folder: pathlib.Path, cpu_seconds: float) -> dict[str, Any]:
    """Adds a session of meta-training to what the earlier ones took, in `sessions.json`.

    Args:
      folder: of the run.
      cpu_seconds: of this session, on all cores.

    Returns:
      A dict with `cpu_seconds`, the sum, and `peak_megabytes`, the highest of the processes up to now; None where the
      system does not say.
    """
    path = folder / SESSIONS_FILE
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        before = float(held["cpu_seconds"]), held["peak_megabytes"]
    except (FileNotFoundError, KeyError, TypeError, ValueError):  # the first session, or a file that is damaged
        before = 0.0, None
    peaks = [peak for peak in (before[1], _peak_megabytes()) if peak is not None]
    made = {"cpu_seconds": round(before[0] + cpu_seconds, 1), "peak_megabytes": max(peaks, default=None)}
    atomic_file.write(path, (json.dumps(made) + "\n").encode())
    return made


def clock(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How long meta-training took.

    Args:
      metrics: of `fit`.

    Returns:
      A dict with `seconds` of all sessions, compilation included, and `outer_steps_per_second` of the last one, without
      its first dispatch; None if there was only one.
    """
    seconds = [row["seconds"] for row in metrics]
    ends = [now for now, after in zip(seconds, [*seconds[1:], 0.0], strict=True) if after < now]
    times, counts = np.unique(seconds[-_last_session(seconds) :], return_counts=True)
    rate = counts[1:].sum() / (times[-1] - times[0]) if len(times) > 1 else None
    return {
        "seconds": round(sum(ends), 1),
        "outer_steps_per_second": None if rate is None else round(float(rate), 3),
    }


def report(
    setting: Setting,
    learner: Learner,
    *,
    command: str,
    seed: int,
    outer_rate: float | None,
    score: str,
    rows: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All that is known of a run, as plain values: numbers that are not finite become None.

    Args:
      setting: what was learned.
      learner: the method.
      command: that made the run.
      seed: of the run.
      outer_rate: as given to the method; None: the method's.
      score: what the rows' means are.
      rows: of the evaluation.
      costs: what meta-training took.
      metrics: of `fit`.
    """
    last = [row["loss"] for row in metrics[-max(1, len(metrics) // 20) :] if math.isfinite(row["loss"])]
    made = {
        "command": command,
        "method": learner.name,
        "data": setting.training.name,
        "ways": setting.ways,
        "shots": setting.shots,
        "queries": setting.queries,
        "inner_steps": learner.num_steps,
        "outer_steps": len(metrics),
        "episodes_per_outer_step": learner.estimator.num_particles,
        "outer_rate": outer_rate,
        "seed": seed,
        "weights": sum(np.size(leaf) for leaf in jax.tree.leaves(learner.theta)),
        "training": {**costs, "last_meta_loss": sum(last) / len(last) if last else None},
        "score": score,
        "evaluation": [dict(row) for row in rows],
        "device": jax.devices()[0].device_kind,
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {key: _finite(value) for key, value in made.items()}


def write_report(path: pathlib.Path, made: Mapping[str, Any]) -> None:
    """Writes a report as JSON."""
    atomic_file.write(path, (json.dumps(made, indent=2, allow_nan=False) + "\n").encode())


def _last_session(seconds):
    """How many of the last entries rise: a session's clock begins anew."""
    for number in range(len(seconds) - 1, 0, -1):
        if seconds[number - 1] > seconds[number]:
            return len(seconds) - number
    return len(seconds)


def _peak_megabytes():
    try:
        import resource  # which Windows lacks
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
