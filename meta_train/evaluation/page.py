"""An evaluation as files: JSON, plots, and one HTML page that stands alone, with verdicts, plots and tables."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import html
import json
import pathlib
from typing import Any

import numpy as np

from meta_train.evaluation import prior
from meta_train.evaluation import report
from meta_train.evaluation import targets
from meta_train.evaluation import verdict
from meta_train.evaluation.prior import Gain
from meta_train.evaluation.protocol import Judgement
from meta_train.evaluation.targets import Race
from meta_train.evaluation.timing import Timing
from meta_train.evaluation.verdict import Verdict
from meta_train.host.counted import counted

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 2rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
tr.judged { font-weight: bold; }
img { max-width: 100%; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; }
"""

_TIMES = (
    "Milliseconds are those of a step of all seeds side by side, under load: each device runs a task of its own at the "
    "same time. They compare optimizers on a task roughly, and say little about what a step takes alone."
)


def write(
    out: pathlib.Path,
    title: str,
    judgements: Mapping[int, Mapping[str, Judgement]],
    timings: Mapping[str, Mapping[str, Timing]] | None = None,
    *,
    with_prior: bool = False,
) -> list[pathlib.Path]:
    """Writes JSON, plots and the page; returns their paths.

    Args:
      out: the JSON file. The page goes beside it, and for each horizon a plot of the curves and a performance profile.
      title: what was evaluated, and how.
      judgements: for each horizon, for each task, what `protocol.judge` gave.
      timings: for each task, what `timing.time_steps` gave, if it was measured.
      with_prior: whether the second contender is the first one's prior, see `prior`. It then has rows and curves, and
        takes no part in verdicts, scores and profiles.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    sections, made = [], [out, out.with_suffix(".html")]
    for steps, of_tasks in judgements.items():
        results = {task: [*judged.contenders, *judged.baselines] for task, judged in of_tasks.items()}
        curves, profile = (out.with_name(f"{out.stem}-{steps}-{what}.png") for what in ("curves", "profile"))
        report.plot(results, curves)
        judged = prior.without(of_tasks) if with_prior else of_tasks
        report.plot_profile({task: [*each.contenders, *each.baselines] for task, each in judged.items()}, profile)
        found, races = verdict.verdict(judged), targets.races(judged, timings)
        gain = prior.gain(of_tasks) if with_prior else None
        sections.append(section(steps, found, of_tasks, curves, profile, races, gain))
        made += [curves, profile]
    out.with_suffix(".html").write_text(page(title, sections), "utf-8", "xmlcharrefreplace")
    whole = record(title, judgements, timings, with_prior=with_prior)
    out.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return made


def record(
    title: str,
    judgements: Mapping[int, Mapping[str, Judgement]],
    timings: Mapping[str, Mapping[str, Timing]] | None = None,
    *,
    with_prior: bool = False,
) -> dict[str, Any]:
    """An evaluation as JSON values.

    Args:
      title, judgements, timings, with_prior: as of `write`.
    """
    horizons = {}
    for steps, of_tasks in judgements.items():
        judged = prior.without(of_tasks) if with_prior else of_tasks
        horizons[str(steps)] = {
            "verdict": verdict.as_json(verdict.verdict(judged)),
            "time_to_target": targets.as_json(targets.races(judged, timings)),
            **({"prior": prior.as_json(prior.gain(of_tasks))} if with_prior else {}),
            "tasks": report.as_json({task: [*each.contenders, *each.baselines] for task, each in of_tasks.items()}),
        }
    whole: dict[str, Any] = {"title": title, "horizons": horizons}
    if timings is not None:
        whole["timings"] = {task: {name: t._asdict() for name, t in each.items()} for task, each in timings.items()}
    return whole


def page(title: str, sections: Sequence[str]) -> str:
    """The page as text, of what `section` gave for each horizon."""
    return "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
            f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>",
            f"<p>{_TIMES}</p>",
            *sections,
            "</html>\n",
        ]
    )


def section(
    num_steps: int,
    found: Verdict,
    judgements: Mapping[str, Judgement],
    curves: pathlib.Path,
    profile: pathlib.Path,
    races: tuple[Race, ...] = (),
    gain: Gain | None = None,
) -> str:
    """The part of the page about one horizon.

    Args:
      num_steps: the horizon.
      found: the verdict.
      judgements: for each task, what was measured.
      curves, profile: PNG files, which the page contains.
      races: how soon the optimizers reach their targets.
      gain: the optimizer beside its prior, if that was judged.
    """
    scores = targets.as_text(races)
    parts = [
        f"<h2>{counted(num_steps, 'step')}</h2>",
        f"<pre>{html.escape(verdict.as_text(found, len(judgements)))}</pre>",
        *([f"<pre>{html.escape(scores)}</pre>"] if scores else []),
        *([] if gain is None else [f"<pre>{html.escape(prior.as_text(gain))}</pre>"]),
        _picture(profile, "performance profile"),
        *(_task(name, judged) for name, judged in judgements.items()),
        _picture(curves, "training curves"),
    ]
    return "\n".join(parts)


def _picture(path, what):
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<h3>{what.capitalize()}</h3><img alt="{what}" src="data:image/png;base64,{encoded}">'


def _task(name, judged):
    header = [*report.columns(judged.contenders), "ms a step", "state, bytes"]
    lines = [f"<h3>{html.escape(name)}</h3><table><tr>{''.join(f'<th>{text}</th>' for text in header)}</tr>"]
    kinds = [" class=judged"] * len(judged.contenders) + [""] * len(judged.baselines)
    for kind, result in zip(kinds, (*judged.contenders, *judged.baselines), strict=True):
        cells = [*report.row(result), _time(result.step_milliseconds), f"{result.state_bytes:,}"]
        lines.append(f"<tr{kind}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    notes = report.footnotes((*judged.contenders, *judged.baselines))
    return "".join([*lines, "</table>", *(f"<p>{html.escape(note)}</p>" for note in notes)])


def _time(milliseconds):
    return "" if np.isnan(milliseconds) else f"{milliseconds:.3f}"
