"""An evaluation as one HTML page that stands alone: verdict, plots, and a table for each task."""

import base64
from collections.abc import Mapping
import html
import pathlib

import numpy as np

from meta_train import report
from meta_train import verdict
from meta_train.protocol import Judgement
from meta_train.verdict import Verdict

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 2rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
tr.judged { font-weight: bold; }
img { max-width: 100%; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; }
"""


def page(
    title: str, found: Verdict, judgements: Mapping[str, Judgement], curves: pathlib.Path, profile: pathlib.Path
) -> str:
    """The page as text.

    Args:
      title: what was evaluated, and how.
      found: the verdict.
      judgements: for each task, what was measured.
      curves, profile: PNG files, which the page contains.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<pre>{html.escape(verdict.as_text(found, len(judgements)))}</pre>",
        _picture(profile, "performance profile"),
        *(_task(name, judged) for name, judged in judgements.items()),
        _picture(curves, "training curves"),
        "</html>\n",
    ]
    return "\n".join(parts)


def _picture(path, what):
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<h2>{what.capitalize()}</h2><img alt="{what}" src="data:image/png;base64,{encoded}">'


def _task(name, judged):
    metrics = [f"held-out {metric}" for metric in report.metrics(judged.contenders)]
    header = ["optimizer", "final training loss", *metrics, "ms a step", "state, bytes"]
    lines = [f"<h2>{html.escape(name)}</h2><table><tr>{''.join(f'<th>{text}</th>' for text in header)}</tr>"]
    kinds = [" class=judged"] * len(judged.contenders) + [""] * len(judged.baselines)
    for kind, result in zip(kinds, (*judged.contenders, *judged.baselines), strict=True):
        cells = [*report.row(result), _time(result.step_milliseconds), f"{result.state_bytes:,}"]
        lines.append(f"<tr{kind}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    return "".join(lines) + "</table>"


def _time(milliseconds):
    return "" if np.isnan(milliseconds) else f"{milliseconds:.3f}"
