"""The report of an adaptation: all figures as JSON values."""

import math
from typing import Any

import jax

from learned_optim import released
from meta_train.adaptation import card
from meta_train.adaptation import constants
from meta_train.adaptation.choice import Candidate
from meta_train.adaptation.plan import Pace
from meta_train.adaptation.plan import Plan
from meta_train.adaptation.search import Found
from meta_train.adaptation.setup import Setup
from meta_train.adaptation.verdict import Verdict
from meta_train.evaluation import report as tables
from meta_train.tasks.base import num_parameters


def as_report(
    setup: Setup,
    *,
    plan: Plan,
    pace: Pace,
    width: int,
    found: Found,
    candidates: list[Candidate],
    chosen: Candidate | None,
    verdict: Verdict,
) -> dict[str, Any]:
    """Makes the report. There is a gain if the choice was for a change, and the verdict is sure of it.

    Args:
      setup: model and optimizer.
      plan, pace, width: how the minutes were spent, how long things take, and trainings side by side on a device.
      found: by the search.
      candidates, chosen: of the choice; None if it was for the default.
      verdict: on the chosen candidate.
    """
    gain = chosen is not None and verdict.gain.sure
    moved = {} if chosen is None or not gain else dict(zip(constants.names(), map(float, chosen.point), strict=True))
    return {
        "task": setup.task.name,
        "gain": gain,
        "objective": setup.objective,
        "num_steps": setup.num_steps,
        "num_parameters": num_parameters(setup.task),
        "has_held_out": setup.halved,
        "kind": constants.KIND,
        "adapted_from": released.DEFAULT,
        "changed": {name: move for name, move in moved.items() if move},
        "table": card.as_table(verdict),
        "plan": {**plan._asdict(), "size": plan.size._asdict()},
        "calibration": {
            "width": width,
            "devices": pace.devices,
            "compile_seconds": pace.compile_seconds,
            "step_milliseconds": 1e3 * pace.step_seconds,
        },
        "search": _of_search(found, plan),
        "choice": [
            {"candidate": each.name, "change": each.change, "error": each.error, "chosen": each is chosen}
            for each in candidates
        ],
        "verdict": {
            **{name: _finite(value) for name, value in verdict.gain._asdict().items()},
            "speedup": verdict.gain.speedup,
            "speedup_on_the_way": verdict.gain.speedup_on_the_way,
            "steps": {
                result.plain_name: _finite(steps) for result, steps in zip(verdict.results, verdict.steps, strict=True)
            },
            "step_milliseconds": {
                result.plain_name: _finite(each)
                for result, each in zip(verdict.results, verdict.step_milliseconds, strict=True)
            },
            "results": tables.as_json({"": verdict.results})[""],
        },
        "device": f"{len(jax.devices())} × {jax.devices()[0].device_kind}",
        "versions": card.versions(),
    }


def _of_search(found, plan):
    sweep = found.sweep
    noise = found.noise or math.inf
    return {
        "method": "whole trainings: a sweep, combinations, CMA-ES",
        "horizon": plan.horizon,
        "trainings": found.trainings,
        "generations": found.generations,
        "stopped_early": found.stopped_early,
        "seeds": found.seeds,
        "signal": found.signal,
        "noise": found.noise,
        "signal_to_noise": found.signal / noise,
        "sweep": {name: [float(a), float(b)] for name, a, b in zip(sweep.names, sweep.down, sweep.up, strict=True)},
    }


def _finite(value):
    return value if isinstance(value, bool) or math.isfinite(value) else None
