"""The files of an adaptation: weights, the card that says what they were made for, figures and curves."""

from collections.abc import Mapping
import json
import math
import os
import pathlib
from typing import Any

import jax

import learned_optim
from meta_train.adaptation.verdict import Verdict
from meta_train.evaluation import report as tables
from meta_train.host.counted import counted

THETA_FILE, CARD_FILE, REPORT_FILE, CURVES_FILE = "theta.safetensors", "card.md", "report.json", "curves.png"
NO_GAIN = "No gain: keep the default."


def write(
    folder: str | os.PathLike[str],
    optimizer: learned_optim.LearnedOptimizer,
    theta: Any,
    report: Mapping[str, Any],
    verdict: Verdict,
) -> list[pathlib.Path]:
    """Writes the files; weights and card only if there is a gain. The report is the last: where it is, all are.

    Returns:
      Their paths.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / REPORT_FILE, folder / CURVES_FILE]
    made[0].unlink(missing_ok=True)  # of an earlier run in the folder, as the others below
    tables.plot({report["task"]: verdict.results}, made[1])
    if report["gain"]:
        learned_optim.save(folder / THETA_FILE, optimizer, theta)
        (folder / CARD_FILE).write_text(as_card(report), encoding="utf-8")
        made = [folder / THETA_FILE, folder / CARD_FILE, *made]
    else:
        (folder / THETA_FILE).unlink(missing_ok=True)
        (folder / CARD_FILE).unlink(missing_ok=True)
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return made


def as_card(report: Mapping[str, Any]) -> str:
    """The card, in Markdown."""
    steps, search, size = report["num_steps"], report["search"], report["plan"]["size"]
    model = f"{report['task']}, a model of {counted(report['num_parameters'], 'parameter')}"
    trainings = f"{counted(search['trainings'], 'training')} of {counted(search['horizon'], 'step')}"
    rows = {
        "kind": f"{report['kind']}, adapted from {report['adapted_from']}",
        "made for": f"{model}, and runs of {counted(steps, 'step')}",
        "weights": "38",
        "objective": f"log of the {_objective(report)}",
        "recipe": f"`{report['command']}`" if report["command"] else "`meta_train.adapt`",
        "trained horizon": f"{steps} steps",
        "uses num_steps": "yes: give the number of steps",
        "compute": f"{report['minutes_taken']:.1f} minutes on {report['device']}; a search by {trainings}",
        "seeds": f"{report['seed']} for the search; trainings of search, choice ({size['choice_seeds']} seeds) and "
        f"verdict ({size['num_seeds']}) have seeds of their own",
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    }
    data = " and held-out data" if report["has_held_out"] else ""
    lines = [
        f"# An optimizer for {report['task']}",
        f"`{report['adapted_from']}` with {counted(len(report['changed']), 'constant')} changed for one model, this "
        "one. On other models nothing is known of it: use the default there.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]),
        f"## Evaluation\n\n{_said(report)} Nothing was chosen on these seeds{data}.",
        f"```\n{report['table']}\n```",
        "## Use\n\n```python\n" + three_lines(report["folder"], steps) + "\n```",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in limits(report)),
    ]
    return "\n\n".join(lines) + "\n"


def three_lines(folder: str | None, num_steps: int) -> str:
    """The code that uses the optimizer.

    Example:
      >>> print(three_lines("runs/mine", 1000))
      from learned_optim import learned_optimizer
      tx = learned_optimizer("runs/mine", num_steps=1000)
      state = tx.init(params)  # and updates, state = tx.update(grads, state, params) in each step
    """
    return (
        "from learned_optim import learned_optimizer\n"
        f"tx = learned_optimizer({json.dumps(folder or 'FOLDER')}, num_steps={num_steps})\n"
        "state = tx.init(params)  # and updates, state = tx.update(grads, state, params) in each step"
    )


def limits(report: Mapping[str, Any]) -> list[str]:
    """What a user has to know about the optimizer's range."""
    steps = report["num_steps"]
    found = [
        f"Made for this model, these data and {counted(steps, 'step')}. After a change of the model's size, the batch "
        "size or the number of steps, compare again: `python -m meta_train compare`.",
        "It has to be told num_steps: the constants for runs of unknown length are those of the default.",
    ]
    if report["search"]["horizon"] != steps:
        searched = counted(report["search"]["horizon"], "step")
        found.append(f"The search saw trainings of {searched}, the choice and the verdict those of all {steps:,}.")
    if not report["has_held_out"]:
        found.append(
            "The file has no held-out data, so the verdict is on other seeds, but on the same examples. Whether the "
            "model generalizes better or worse with it was not measured."
        )
    return found


def as_text(report: Mapping[str, Any]) -> str:
    """The outcome for a terminal."""
    lines = [report["table"], "", _said(report)]
    if report["gain"]:
        lines += ["", three_lines(report["folder"], report["num_steps"])]
    else:
        lines.append(NO_GAIN)
    return "\n".join(lines)


def as_table(verdict: Verdict) -> str:
    """The table of results, with steps and seconds to the default's final loss."""
    table = tables.table(verdict.results).split("\n")
    rows, notes = table[: len(verdict.results) + 1], table[len(verdict.results) + 1 :]
    cells = [["steps to the default's loss", "seconds"]]
    for steps, milliseconds in zip(verdict.steps, verdict.step_milliseconds, strict=True):
        seconds = steps * milliseconds / 1e3
        reached = math.isfinite(steps)
        cells.append([f"{steps:,.0f}" if reached else "never", f"{seconds:.3g}" if math.isfinite(seconds) else ""])
    width, second = max(map(len, rows)), max(len(cell[0]) for cell in cells)
    lines = [
        f"{row.ljust(width)}  {one.ljust(second)}  {two}".rstrip() for row, (one, two) in zip(rows, cells, strict=True)
    ]
    return "\n".join([*lines, *notes])


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    import platform

    return {"Python": platform.python_version(), "jax": jax.__version__, "learned_optim": learned_optim.__version__}


def _objective(report):
    return "final training loss" if report["objective"] == "training" else "held-out loss after the last step"


def _said(report):
    """The outcome in a sentence or two."""
    gain = report["verdict"]
    loss = "training loss" if report["objective"] == "training" else "held-out loss"
    factor = math.exp(gain["change"])
    low, high = (math.exp(gain["change"] + sign * gain["error"]) for sign in (-1.0, 1.0))
    text = (
        f"The adapted optimizer ends at {factor:.3g} times the {loss} of the default ({low:.3g} to {high:.3g}, a "
        "standard error either way)."
    )
    if gain["adapted_told_steps"] is not None and gain["default_told_steps"] is not None:
        text += (
            f" To end at that of the default, it has to be told {_steps(gain['adapted_told_steps'], report)}, the "
            f"default {_steps(gain['default_told_steps'], report)}: {gain['speedup']:.2f} times as fast."
        )
    if gain["adapted_steps"] is not None:
        text += (
            f" On the way of a whole training it is there after {counted(round(gain['adapted_steps']), 'step')}, the "
            f"default after {gain['default_steps']:,.0f}."
        )
    return text


def _steps(number, report):
    """A number of steps that was found between rungs; the least rung is a bound."""
    bound = "at most " if number <= max(1, round(min(report["plan"]["size"]["rungs"]) * report["num_steps"])) else ""
    return f"{bound}{counted(round(number), 'step')}"
