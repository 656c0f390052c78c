"""The metrics of a run: a dict for each outer step, in memory and in the file `metrics.jsonl`.

The file is strict JSON, which knows neither NaN nor infinity: they are written as null. In memory, losses and the norm
of the gradient are always floats, NaN where they were not finite; what is null elsewhere is None.
"""

from collections.abc import Sequence
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from meta_train.training.engine import Metrics

_ALWAYS = ("step", "loss", "grad_norm", "dropped", "inner_steps", "seconds")  # the metrics of every run


def records(rows: Metrics, names: Sequence[str], step: int, count: int, seconds: float) -> list[dict[str, Any]]:
    """A dispatch's metrics, a dict for each of its `count` outer steps; `step` were made before."""
    return [
        {
            "step": step + i + 1,
            "loss": _number(rows.loss[i]),
            **{f"loss/{name}": _number(loss) for name, loss in zip(names, rows.task_losses[i], strict=True)},
            "grad_norm": _number(rows.grad_norm[i]),
            "dropped": int(rows.dropped[i]),
            "inner_steps": int(rows.inner_steps[i]),
            "gradient_variance": _known(rows.gradient_variance[i]),
            "snr": _known(rows.snr[i]),
            **{f"outer/{name}": _plain(values[i]) for name, values in rows.outer.items()},
            "seconds": round(seconds, 3),
        }
        for i in range(count)
    ]


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads a `metrics.jsonl`, of a run that may still be going on.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if a line is damaged; it names file and line. A last line that is cut short is left out: it is being
        written, or a killed run has left it.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = pathlib.Path(folder) / "metrics.jsonl"
      ...     first = {"step": 1, "loss": None, "grad_norm": 2.0, "dropped": 4, "inner_steps": 9, "seconds": 0.1}
      ...     _ = file.write_text(f'{json.dumps(first)}\\n{{"step": 2, "lo')
      ...     [record["loss"] for record in read(file)]
      [nan]
    """
    found, damage = read_until_damage(path)
    if damage is not None:
        raise ValueError(f"{damage}. Mend that line, or delete it and those below.")
    return found


def read_until_damage(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], str | None]:
    """Returns the records up to the first damaged line, and what is wrong with that line; None if nothing is."""
    *lines, rest = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            found.append(_from_line(line, number, found[0] if found else _ALWAYS))
        except ValueError as error:
            cut_short = number > len(lines)
            return found, None if cut_short else f"{path}, line {number}, is damaged: {error}"
    return found, None


def to_text(metrics: Sequence[dict[str, Any]]) -> str:
    """Lines of a `metrics.jsonl`."""
    return "".join(json.dumps(_strict(record), allow_nan=False) + "\n" for record in metrics)


def _from_line(line, number, names):
    """A line as a record that has these names, or a ValueError."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg}, column {error.colno})") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    if record.get("step") != number:
        raise ValueError(f"it must be that of step {number}, and is that of step {record.get('step')}")
    missing = sorted(set(names) - record.keys())
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    floats = {name: math.nan if value is None else value for name, value in record.items() if _is_float(name)}
    if not all(isinstance(value, int | float) for value in floats.values()):
        raise ValueError("a loss or grad_norm is neither a number nor null")
    return record | floats


def _strict(record):
    return {name: None if _is_float(name) and not math.isfinite(value) else value for name, value in record.items()}


def _is_float(name):
    """Whether a metric is a float in memory, known or not."""
    return name in ("loss", "grad_norm") or name.startswith("loss/")


def _number(value):
    """A float: NaN for infinity too, so that a resumed run has the same metrics as an uninterrupted one."""
    return float(value) if np.isfinite(value) else math.nan


def _known(value):
    """A float, or None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def _plain(value):
    """An int, a float or None, or a list of them."""
    if value.ndim:
        return [_plain(x) for x in value]
    return int(value) if np.issubdtype(value.dtype, np.integer) else _known(value)
