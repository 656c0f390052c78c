"""Metrics as TensorBoard's event files, with tensorboardX: the extra `tensorboard`. `fit(tensorboard=True)` uses it."""

from collections.abc import Sequence
import itertools
import pathlib
from typing import Any

_LEFT_OUT = ("step", "inner_steps", "seconds")  # the axis, and what stands in the rate


def require() -> None:
    """Raises ModuleNotFoundError unless tensorboardX is installed."""
    try:
        import tensorboardX  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensorboard=True (--tensorboard) needs tensorboardX, which is not installed: "
            "pip install tensorboardX, or leave it out; metrics.jsonl holds the same numbers.",
            name=error.name,
        ) from error


def start(folder: pathlib.Path, metrics: Sequence[dict[str, Any]]) -> Any:
    """Returns a writer whose event file holds these metrics, in place of any event files in the folder.

    A killed run may have written more steps than it saved; so a resumed one has every step once.
    """
    import tensorboardX

    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    writer = tensorboardX.SummaryWriter(str(folder))
    before = 0.0
    for seconds, group in itertools.groupby(metrics, key=lambda record: record["seconds"]):
        records, elapsed = list(group), seconds - (before if seconds > before else 0.0)  # 0 where a session begins
        add(writer, records, sum(record["inner_steps"] for record in records) / max(elapsed, 1e-3))
        before = seconds
    writer.flush()
    return writer


def add(writer: Any, records: Sequence[dict[str, Any]], rate: float) -> None:
    """Adds the metrics of a dispatch, by outer step, and its inner steps a second."""
    for record in records:
        for name, value in record.items():
            numbers = {f"{name}/{i}": x for i, x in enumerate(value)} if isinstance(value, list) else {name: value}
            for tag, number in numbers.items():
                if name not in _LEFT_OUT and number is not None:
                    writer.add_scalar(tag, number, record["step"])
    writer.add_scalar("inner_steps_per_second", rate, records[-1]["step"])
