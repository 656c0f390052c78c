"""Tables, plots and JSON of evaluation results."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
from typing import Any

import numpy as np

from meta_train.evaluation import scores
from meta_train.evaluation.evaluate import Result
from meta_train.host.counted import counted

_SAFEGUARDS = ["outer/shortened", "outer/skipped", "outer/rollbacks"]  # counts of a run, see `safeguards`
AT_EDGE = "* The tuned rate is at the edge of the grid: a rate beyond it may do better."
"""The footnote of tables with a name that `row` has marked."""

_LABEL_LENGTH = 60  # characters of a name that fit into the legend of a panel


def table(results: Sequence[Result]) -> str:
    """A text table: a line for each optimizer, means over seeds with their standard errors.

    Example:
      >>> import numpy as np
      >>> print(table([Result("sgd", np.array([[3.0, 1.0], [3.0, 2.0]]), {"loss": np.array([2.0, 2.0])})]))
      optimizer  final training loss  held-out loss
      sgd            1.500 ± 0.500    2.000 ± 0.000
    """
    header = columns(results)
    rows = [row(result) for result in results]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join([*lines, *footnotes(results)])


def footnotes(results: Sequence[Result]) -> list[str]:
    """What a table of the results needs below it: the meaning of the marks that it has."""
    return [AT_EDGE] if any(result.at_edge for result in results) else []


def columns(results: Sequence[Result]) -> list[str]:
    """The header of a table: what `row` gives."""
    best = ["best held-out loss"] if results[0].along is not None else []
    return ["optimizer", "final training loss", *(f"held-out {metric}" for metric in metrics(results)), *best]


def metrics(results: Sequence[Result]) -> list[str]:
    """Names of the held-out metrics, the loss first."""
    return sorted(results[0].held_out, key=lambda metric: (metric != "loss", metric))


def row(result: Result) -> list[str]:
    """Name, final training loss and held-out metrics of an optimizer, as text: means and standard errors.

    If held-out losses were taken along the way, the lowest follows. A tuned rate at the edge of its grid has a star,
    see `footnotes`.
    """
    best = result.best_held_out_losses
    return [
        _marked(result),
        _number(result.final_losses),
        *(_number(result.held_out[metric]) for metric in metrics([result])),
        *([] if best is None else [_number(best)]),
    ]


def plot(results: Mapping[str, Sequence[Result]], path: str | os.PathLike[str]) -> None:
    """Draws training curves to a PNG: a panel for each task, a line for each optimizer, the range of seeds shaded.

    The curves are running means over a fortieth of the steps; the vertical axis is logarithmic.

    Args:
      results: for each task its results, all with the same number of steps.
      path: the PNG file.
    """
    # Imported here: drawing is optional work, and Matplotlib takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    lines = max(-(-len(runs) // _legend_columns(runs)) for runs in results.values())  # of the longest legend
    height = 4.2 + 0.18 * max(0, lines - 5)  # so that the legend leaves the panel its room
    figure = Figure(figsize=(5.5 * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (task, runs), panel in zip(results.items(), panels, strict=False):  # so that no panel is lost
        for result in runs:
            curves, offset = _smooth(result.losses)
            steps = np.arange(curves.shape[1]) + offset
            (line,) = panel.plot(steps, curves.mean(axis=0), label=_label(result.optimizer), linewidth=1.6)
            panel.fill_between(
                steps, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.15, linewidth=0
            )
        panel.set(title=task, xlabel="step", yscale="log")
        panel.grid(alpha=0.3)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}  # off the curves
        panel.legend(fontsize=8, ncols=_legend_columns(runs), **below)
    for panel in panels:  # those that are left over
        panel.set_axis_off()
    figure.axes[0].set_ylabel("training loss")
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def plot_profile(results: Mapping[str, Sequence[Result]], path: str | os.PathLike[str]) -> None:
    """Draws a performance profile to a PNG: the share of tasks on which an optimizer ends within a factor of the best.

    Args:
      results: for each task its results, of the same optimizers in the same order.
      path: the PNG file.

    References:
      Dolan and Moré 2002, https://arxiv.org/abs/cs/0102001
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = np.array([[result.final_losses.mean() for result in runs] for runs in results.values()]).T
    factors = np.geomspace(1.0, 1000.0, 200)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for result, shares in zip(next(iter(results.values())), scores.profile(losses, factors), strict=True):
        panel.plot(factors, shares, label=_label(result.plain_name))
    panel.set(xscale="log", ylim=(-0.02, 1.02), xlabel="final training loss, in units of the best optimizer's")
    panel.set_ylabel(f"share of {counted(len(results), 'task')} within that factor")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def plot_run(metrics: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws the curves of a meta-training run to a PNG: loss of each task, gradient norm, dropped particles.

    A population adds the loss of each member, and safeguards add how often they acted.

    Args:
      metrics: the rows that `fit` returns, or those of a `metrics.jsonl`.
      path: the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.array([row["step"] for row in metrics])
    groups = [([key for key in metrics[0] if key.startswith("loss/")], "linear"), (["grad_norm"], "log")]
    groups.append((["dropped"], "linear"))
    groups += [(keys, "linear") for keys in (["outer/member_loss"], _SAFEGUARDS) if keys[0] in metrics[0]]
    figure = Figure(figsize=(5 * len(groups), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (keys, scale) in zip(figure.subplots(1, len(groups)), groups, strict=True):
        for key in keys:
            values = np.array([row[key] for row in metrics], np.float64)
            if values.ndim > 1:  # [steps, members]: too many for a legend
                panel.plot(steps, values, linewidth=0.5)
                panel.set_title(key, fontsize=8)
                continue
            (line,) = panel.plot(steps, values, linewidth=0.5, alpha=0.3)
            smooth, offset = _smooth(values[None])
            panel.plot(steps[0] + offset + np.arange(smooth.shape[1]), smooth[0], color=line.get_color(), label=key)
        panel.set(xlabel="outer step", yscale=scale)
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def as_json(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Results as plain JSON values: for each task and optimizer the final losses and held-out metrics of each seed."""
    return {
        task: [
            {
                "optimizer": result.optimizer,
                "num_steps": result.losses.shape[1],
                "learning_rate": result.learning_rate,
                "learning_rate_at_edge": result.at_edge,
                "step_milliseconds": _finite_list([result.step_milliseconds])[0],
                "state_bytes": result.state_bytes,
                "final_training_loss": _finite_list(result.final_losses),
                "held_out": {metric: _finite_list(values) for metric, values in result.held_out.items()},
                "hyperparameters": result.hyperparameters,
                **_along(result),
            }
            for result in runs
        ]
        for task, runs in results.items()
    }


def _along(result):
    if result.along is None or result.best_held_out_losses is None:
        return {}
    means = {metric: _finite_list(values.mean(axis=1)) for metric, values in result.along.held_out.items()}
    return {
        "best_held_out_loss": _finite_list(result.best_held_out_losses),
        "along": {"steps": result.along.marks.tolist(), "held_out": means},
    }


def _marked(result):
    rate = "" if result.learning_rate is None else f" {result.learning_rate:.3g}"
    return result.optimizer.replace(f"{rate} (", f"{rate}* (") if result.at_edge else result.optimizer


def _number(values):
    diverged = np.count_nonzero(~np.isfinite(values))
    if diverged:
        return f"diverged in {diverged} of {len(values)}"
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    digits = 3 if 0.1 <= abs(values.mean()) < 1000 else None
    text = (lambda x: f"{x:.{digits}f}") if digits else (lambda x: f"{x:.2e}")
    return text(values.mean()) + (f" ± {text(error)}" if len(values) > 1 else "")


def _legend_columns(runs):
    return 2 if all(len(run.optimizer) <= _LABEL_LENGTH // 2 for run in runs) else 1


def _label(name):
    """Escapes a name for Matplotlib, which reads formulas between dollars and hides labels that begin with _.

    Of a name that a legend has no room for, such as a long path, it shows the end.
    """
    name = name if len(name) <= _LABEL_LENGTH else f"…{name[1 - _LABEL_LENGTH :]}"
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _smooth(losses):
    """Running mean along the steps, and the step that the first of its entries stands for.

    Each mean is taken by itself: in differences of cumulative sums, a NaN or a huge loss would spoil all later entries.
    """
    width = max(1, losses.shape[1] // 40)
    windows = np.lib.stride_tricks.sliding_window_view(losses, width, axis=1)  # [seeds, steps - width + 1, width]
    return windows.mean(axis=-1, dtype=np.float64), (width - 1) / 2


def _finite_list(values):
    return [float(value) if np.isfinite(value) else None for value in values]  # JSON knows no infinity
