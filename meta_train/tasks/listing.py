"""What there is to know about a named task without training it."""

from typing import NamedTuple

import jax
import numpy as np

from meta_train import data
from meta_train.tasks import suites


class Description(NamedTuple):
    """A line of the list of tasks; the last three are None where the data are not at hand."""

    name: str
    suite: str
    family: str
    data: str  # the data set, with the size of its images; "drawn" if each episode draws its own
    found: str | None  # where the data come from, see `data.available`; None: missing
    parameters: int | None
    flops: float | None  # operations of a loss and its gradient, before XLA optimises; a loop's body counts once
    scale: float | None  # what the loss is divided by before tasks are compared


def describe(name: str, *, data_dir: str | None = None) -> Description:
    """Describes a named task. Nothing is compiled, nothing downloaded.

    Args:
      name: a key of `TASKS`.
      data_dir: folder with data sets; see `data.load`.

    Raises:
      ValueError: if there is no such task.

    Example:
      >>> describe("digits-softmax").parameters
      650
    """
    suites.is_embedded(name)  # raises for an unknown name
    entry = suites.TASKS[name]
    source, found = "drawn", ""
    if entry.source is not None:
        size = f" {entry.source.size}×{entry.source.size}" if entry.source.size else ""
        source, found = entry.source.name + size, data.available(entry.source.name, data_dir=data_dir)
    described = Description(name, entry.suite, entry.family.__name__, source, found, None, None, None)
    if found is None:
        return described
    task = suites.get(name, data_dir=data_dir)
    key = jax.eval_shape(jax.random.key, 0)
    config = jax.eval_shape(task.sample, key)
    params = jax.eval_shape(task.init, key, config)
    lowered = jax.jit(jax.value_and_grad(task.loss)).lower(params, key, task.data, config)
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    return described._replace(
        parameters=size,
        flops=float(lowered.cost_analysis()["flops"]),
        scale=task.scale,
    )


def table(descriptions: list[Description]) -> str:
    """The list as text, a line for each task."""
    header = ("task", "suite", "family", "data", "from", "parameters", "Mflop a step", "normalised by")
    rows = [header]
    for d in descriptions:
        found = "missing" if d.found is None else d.found
        numbers = ("", "", "") if d.parameters is None else (f"{d.parameters:,}", f"{d.flops / 1e6:.3g}", _scale(d))
        rows.append((d.name, d.suite, d.family, d.data, found, *numbers))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = []
    for row in rows:
        texts = [text.ljust(w) for text, w in zip(row[:5], widths[:5], strict=True)]
        texts += [text.rjust(w) for text, w in zip(row[5:], widths[5:], strict=True)]
        lines.append("  ".join(texts).rstrip())
    lines.append(
        "Mflop a step: loss and gradient, before XLA optimizes them. The body of a loop (recurrent nets) counts once."
    )
    return "\n".join(lines)


def _scale(description):
    return "" if description.scale is None else f"{description.scale:.3g}"
