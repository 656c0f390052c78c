"""What a tuning says: the report, the schedule as JSON and as a picture, and the optax code that uses it."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import math
import os
import pathlib
from typing import Any

import jax
import numpy as np

from meta_train.adaptation import card
from meta_train.adaptation.choice import Candidate
from meta_train.adaptation.verdict import Gain
from meta_train.evaluation import report as tables
from meta_train.evaluation.evaluate import Result
from meta_train.host.counted import counted
from meta_train.problems.hyperparameters import Schedules
from meta_train.tuning.descent import Path
from meta_train.tuning.grid import Constants
from meta_train.tuning.grid import Setting

SCHEDULE_FILE, PICTURE_FILE, REPORT_FILE = "schedule.json", "schedule.png", "report.json"
_TITLES = {"learning_rate": "learning rate", "momentum": "1 − momentum", "weight_decay": "weight decay"}


def as_report(
    *,
    name: str,
    objective: str,
    num_steps: int,
    has_held_out: bool,
    gained: bool,
    constants: Constants,
    path: Path,
    way: str,
    judged: Sequence[Candidate],
    chosen: Candidate | None,
    results: Sequence[Result],
    gain: Gain,
    steps: Sequence[float],
) -> dict[str, Any]:
    """Makes the report of JSON values.

    Args:
      name: of the task.
      objective, num_steps, has_held_out: of the trainings.
      gained: whether the schedules are to be used.
      constants: of the grid.
      path, way: of the descent.
      judged, chosen: of the choice.
      results, gain, steps: of the verdict, the constants first.
    """
    return {
        "task": name,
        "gain": gained,
        "objective": objective,
        "num_steps": num_steps,
        "has_held_out": has_held_out,
        "constants": {**constants.setting._asdict(), "tried": constants.tried, "at_edge": constants.at_edge},
        "table": tables.table(results),
        "hypergradients": {
            "way": way,
            "steps": len(path.losses),
            "seeds": path.seeds,
            "losses": [float(loss) if np.isfinite(loss) else None for loss in path.losses],
        },
        "choice": [
            {"candidate": each.name, "change": each.change, "error": each.error, "chosen": each is chosen}
            for each in judged
        ],
        "verdict": {
            "change": gain.change,
            "error": gain.error,
            "sure": gain.sure,
            "constants_steps": _finite(steps[0]),
            "schedules_steps": _finite(steps[1]),
            "results": tables.as_json({"": results})[""],
        },
        "device": f"{len(jax.devices())} × {jax.devices()[0].device_kind}",
        "versions": card.versions(),
    }


def write(
    folder: str | os.PathLike[str],
    used: Schedules,
    tried: Schedules,
    results: Sequence[Result],
    report: Mapping[str, Any],
) -> list[pathlib.Path]:
    """Writes the files; the schedule only if there is a gain. The report is the last: where it is, all are.

    Args:
      folder: where to.
      used: the schedules to be used.
      tried: those of the verdict, which the picture shows.
      results: of the verdict.
      report: the report.

    Returns:
      Their paths.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / REPORT_FILE, folder / PICTURE_FILE]
    schedule = folder / SCHEDULE_FILE
    for path in (made[0], schedule):
        path.unlink(missing_ok=True)  # of an earlier run in the folder
    plot(tried, results, report, made[1])
    if report["gain"]:
        values = {"task": report["task"], "num_steps": report["num_steps"]}
        values |= {name: [float(f"{x:.6g}") for x in leaf] for name, leaf in used._asdict().items()}
        schedule.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        made.insert(0, schedule)
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return made


def plot(tried: Schedules, results: Sequence[Result], report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the three schedules beside the constants, and the training curves, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 4)
    steps = report["num_steps"]
    edges = np.linspace(0.0, steps, len(tried.learning_rate) + 1)
    for panel, (name, title) in zip(panels, _TITLES.items(), strict=False):
        values, constant = np.asarray(getattr(tried, name), np.float64), report["constants"][name]
        if name == "momentum":
            values, constant = 1.0 - values, 1.0 - constant
        panel.stairs(values, edges, baseline=None, linewidth=1.8, label="schedules")
        if constant > 0:
            panel.axhline(constant, color="gray", linestyle="--", linewidth=1.0, label="constants")
        panel.set(title=title, xlabel="step", yscale="log")
    for result in results:
        width = max(1, steps // 40)
        curve = np.convolve(result.losses.mean(axis=0), np.ones(width) / width, mode="valid")
        panels[3].plot(np.arange(len(curve)) + width - 1, curve, label=result.optimizer)
    panels[3].set(title="training loss", xlabel="step", yscale="log")
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle(f"{report['task']}: {'a gain' if report['gain'] else 'no gain'}", fontsize=10)
    figure.savefig(path, dpi=120)


def as_text(report: Mapping[str, Any]) -> str:
    """The outcome for a terminal."""
    lines = [report["table"], "", _said(report)]
    setting = Setting(**{name: report["constants"][name] for name in Setting._fields})
    if report["constants"]["at_edge"]:
        lines.append(
            "The best learning rate is the least or the largest of the grid: constants beyond it may be better."
        )
    if report["gain"]:
        lines += ["", schedule_code(report["folder"])]
    else:
        lines += ["No gain: keep the constants.", "", constant_code(setting)]
    return "\n".join(lines)


def setting_text(setting: Setting) -> str:
    """Constants in words.

    Example:
      >>> setting_text(Setting(0.1, 0.9, 0.0))
      'learning rate 0.1, momentum 0.9, weight decay 0'
    """
    rate, momentum, decay = setting
    return f"learning rate {rate:.3g}, momentum {momentum:g}, weight decay {decay:g}"


def constant_code(setting: Setting) -> str:
    """The optax code of constants."""
    rate, momentum, decay = setting
    return (
        "import optax\n"
        f"tx = optax.chain(optax.add_decayed_weights({decay:g}), optax.sgd({rate:.4g}, momentum={momentum:g}))\n"
        "state = tx.init(params)  # and updates, state = tx.update(grads, state, params) in each step"
    )


def schedule_code(folder: str | None) -> str:
    """The optax code of the schedules in a folder."""
    path = json.dumps(f"{folder or 'FOLDER'}/{SCHEDULE_FILE}")
    return f"""import json, jax.numpy as jnp, optax
with open({path}) as file:
    found = json.load(file)
def schedule(name):
    values = jnp.asarray(found[name])
    return lambda count: values[jnp.minimum(count * len(values) // found["num_steps"], len(values) - 1)]
tx = optax.chain(
    optax.inject_hyperparams(optax.add_decayed_weights)(weight_decay=schedule("weight_decay")),
    optax.inject_hyperparams(optax.sgd)(learning_rate=schedule("learning_rate"), momentum=schedule("momentum")),
)
state = tx.init(params)  # and updates, state = tx.update(grads, state, params) in each step"""


def _said(report):
    """The outcome in a sentence or two."""
    gain = report["verdict"]
    loss = "training loss" if report["objective"] == "training" else "held-out loss"
    factor = math.exp(gain["change"])
    low, high = (math.exp(gain["change"] + sign * gain["error"]) for sign in (-1.0, 1.0))
    text = (
        f"The schedules end at {factor:.3g} times the {loss} ({low:.3g} to {high:.3g}, a standard error either way) of "
        f"the best of {report['constants']['tried']} constant settings."
    )
    if gain["schedules_steps"] is not None and gain["constants_steps"] is not None and factor < 1:
        text += (
            f" They reach the final loss of the constants in {counted(round(gain['schedules_steps']), 'step')}, the "
            f"constants in {gain['constants_steps']:,.0f}."
        )
    if not report["has_held_out"]:
        text += " The file has no held-out data: nothing is known of other examples."
    return text


def _finite(value):
    return float(value) if math.isfinite(value) else None
