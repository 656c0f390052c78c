"""The pictures that `meta-train few-shot` draws: curves, and held-out episodes with what a method made of them."""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from meta_train.few_shot import Episode

_MOST_ROWS = 5  # of pictures of a class, in the support set and in the query set
_MOST_WAYS = 20
_RIGHT, _WRONG = "tab:green", "tab:red"


def curves(
    metrics: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], score: str, path: pathlib.Path
) -> None:
    """Draws the meta-loss over outer steps, and held-out scores over the steps of adaptation.

    Args:
      metrics: of `fit`, the first outer step first.
      rows: of the report's evaluation: each with `name`, `inner_steps` (None for what does not adapt by steps), `mean`
        and `half_width`.
      score: what the scores are, for the axis.
      path: the PNG file.
    """
    figure = _figure(11, 4)
    left, right = figure.subplots(1, 2)
    steps = np.array([row["step"] for row in metrics])
    losses = np.array([row["loss"] for row in metrics], np.float64)
    (line,) = left.plot(steps, losses, linewidth=0.5, alpha=0.3)
    width = max(1, len(losses) // 40)
    smooth = np.lib.stride_tricks.sliding_window_view(losses, width).mean(axis=-1)
    left.plot(steps[0] + (width - 1) / 2 + np.arange(len(smooth)), smooth, color=line.get_color())
    left.set(xlabel="outer step", ylabel="meta-loss, training episodes")
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        means, errors = [row["mean"] for row in own], [row["half_width"] for row in own]
        if len(own) == 1:  # a rival
            steps = own[0]["inner_steps"]
            (line,) = right.plot([], [], linestyle="--", label=name if steps is None else f"{name}, {steps} steps")
            right.axhline(means[0], linestyle="--", color=line.get_color())
        else:
            right.errorbar([row["inner_steps"] for row in own], means, errors, marker="o", capsize=3, label=name)
    right.set(xlabel="inner steps", ylabel=f"{score}, held-out episodes")
    right.legend(fontsize=8)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    _save(figure, path)


def classified(episode: Episode, predictions: np.ndarray, path: pathlib.Path) -> None:
    """Draws the support set and the query set, a column for each class, with the answers.

    Args:
      episode: of pictures, with labels as targets.
      predictions: int[queries], labels.
      path: the PNG file.
    """
    support = _by_class(*episode.support, np.asarray(episode.support.targets))
    query = _by_class(*episode.query, np.asarray(predictions))
    ways = len(support)
    above, below = len(support[0]), len(query[0])
    figure = _figure(1.2 + 0.75 * ways, 0.9 + 0.75 * (above + below))
    panel = figure.subplots()
    height, width = support[0][0][0].shape[:2]
    gap = max(2, height // 7)
    canvas = np.ones(((2 * (above + below) + 1) * (height + gap) // 2, ways * (width + gap)))
    for column in range(ways):
        for row, (picture, answer) in enumerate([*support[column], *query[column]]):
            top = (2 * row + (row >= above)) * (height + gap) // 2 + gap // 2
            left = column * (width + gap) + gap // 2
            canvas[top : top + height, left : left + width] = 1.0 - _gray(picture)
            if row >= above:
                _frame(panel, left, top, width, height, column, answer)
            else:
                panel.text(left + width / 2, top - gap / 2, f"{column}", fontsize=7, ha="center", va="center")
    panel.imshow(canvas, cmap="gray", vmin=0.0, vmax=1.0)
    panel.set_axis_off()
    right = np.mean(np.asarray(predictions) == np.asarray(episode.query.targets))
    panel.set_title(
        f"above: support set; below: query set, {right:.0%} right\n(green: right; red: wrong, with the answer)",
        fontsize=8,
    )
    _save(figure, path)


def fitted(
    episodes: Sequence[Episode], inputs: np.ndarray, answers: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Draws adapted curves, a panel for each episode: the wave, the support set, and each answer for it.

    Args:
      episodes: of one input and one output each; the query set lies on the wave, and is drawn as a line.
      inputs: float[n], where the answers were taken, in order.
      answers: for each name, float[episodes, n].
      path: the PNG file.
    """
    figure = _figure(4.2 * len(episodes), 3.6)
    panels = figure.subplots(1, len(episodes), squeeze=False, sharey=True)[0]
    for number, (episode, panel) in enumerate(zip(episodes, panels, strict=True)):
        wave = np.stack([np.asarray(episode.query.inputs)[:, 0], np.asarray(episode.query.targets)[:, 0]])
        panel.plot(*wave[:, np.argsort(wave[0])], color="k", linewidth=1, label="wave")
        panel.plot(episode.support.inputs[:, 0], episode.support.targets[:, 0], "k^", label="support set")
        for name, curves_of in answers.items():
            panel.plot(inputs, curves_of[number], linestyle="--", label=name)
        panel.grid(alpha=0.3)
        panel.set(xlabel="x")
    panels[0].legend(fontsize=7)
    _save(figure, path)


def _by_class(inputs, targets, answers):
    """For each class its first pictures, each with the answer for it."""
    targets = np.asarray(targets)
    pairs = lambda label: [(np.asarray(inputs[i]), int(answers[i])) for i in np.flatnonzero(targets == label)]
    return [pairs(label)[:_MOST_ROWS] for label in range(min(int(targets.max()) + 1, _MOST_WAYS))]


def _gray(picture):
    """float[height, width] in 0…1."""
    return np.clip(picture.mean(axis=-1), 0.0, 1.0)


def _frame(panel, left, top, width, height, label, answer):
    from matplotlib.patches import Rectangle

    color = _RIGHT if answer == label else _WRONG
    panel.add_patch(Rectangle((left - 1, top - 1), width + 1, height + 1, fill=False, edgecolor=color, linewidth=1.5))
    if answer != label:
        panel.text(left + width - 1, top + height - 1, f"{answer}", fontsize=7, color=color, ha="right", va="bottom")


def _figure(width, height):
    # Imported here: Matplotlib takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
