"""Facts about a named task that need no training: its size, its data, its cost."""

from typing import NamedTuple

import jax

from meta_train import data
from meta_train.tasks import suites
from meta_train.tasks.base import num_parameters
from meta_train.tasks.source import WrongSizeError

WRONG_SIZE = "wrong size"  # data of the name are at hand, but not the ones that the name of the task stands for


class Description(NamedTuple):
    """A line of the list of tasks; the last three are None where the data are not at hand in the right size."""

    name: str
    suite: str
    family: str
    data: str  # the data set, with the size of its images; "drawn" if each episode draws its own
    found: str | None  # where the data come from, see `data.available`; None: missing; or `WRONG_SIZE`
    parameters: int | None
    flops: float | None  # operations of a loss and its gradient, before XLA optimizes; a loop's body counts once
    scale: float | None  # `Task.scale`, about the loss of an untrained model


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
    try:
        task = suites.get(name, data_dir=data_dir)
    except WrongSizeError:
        return described._replace(found=WRONG_SIZE)
    key = jax.eval_shape(jax.random.key, 0)
    config = jax.eval_shape(task.sample, key)
    params = jax.eval_shape(task.init, key, config)
    lowered = jax.jit(jax.value_and_grad(task.loss)).lower(params, key, task.data, config)
    return described._replace(
        parameters=num_parameters(task),
        flops=(lowered.cost_analysis() or {}).get("flops"),
        scale=task.scale,
    )


def table(descriptions: list[Description]) -> str:
    """The list as text, a line for each task."""
    header = ("task", "suite", "family", "data", "from", "parameters", "Mflop a step", "normalized by")
    rows: list[tuple[str, ...]] = [header]
    for d in descriptions:
        found = "missing" if d.found is None else d.found
        parameters = "" if d.parameters is None else f"{d.parameters:,}"
        flops = "" if d.flops is None else f"{d.flops / 1e6:.3g}"
        scale = "" if d.scale is None else f"{d.scale:.3g}"
        rows.append((d.name, d.suite, d.family, d.data, found, parameters, flops, scale))
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
