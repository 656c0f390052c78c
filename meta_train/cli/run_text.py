"""The state of a run as text and as JSON."""

from collections.abc import Sequence
import itertools
import math
from typing import Any

from meta_train.host import durations
from meta_train.host.counted import counted
from meta_train.training import run_status
from meta_train.training.run_status import RunStatus

_BLOCKS, _PLAIN = "▁▂▃▄▅▆▇█", "_.-=*#"
_LABEL = 12  # characters before the text of a line


def snapshot(status: RunStatus, *, columns: int = 80, rows: int = 40, encoding: str | None = "utf-8") -> list[str]:
    """Returns lines that show a run and fit the terminal.

    Args:
      status: of the run.
      columns, rows: the size of the terminal.
      encoding: of the terminal, which may lack the characters of the curve.
    """
    width = max(20, columns - _LABEL - 1)
    lines = [_title(str(status.folder), _state(status), max(20, columns - 1))]
    if status.damage is not None:
        lines.append(_labelled("damage", status.damage))
    lines.append(_labelled("step", _steps(status, width)))
    if status.loss is not None or status.curve:
        lines.append(_labelled("loss", f"{_number(status.loss)} (mean of the last {counted(status.averaged, 'step')})"))
        curve = [loss for loss in status.curve if math.isfinite(loss)]
        if curve:
            lines.append(_labelled("", sparkline(status.curve, width, encoding)))
            low, high = min(curve), max(curve)
            lines.append(_labelled("", f"from {curve[0]:.4g} to {curve[-1]:.4g}, between {low:.4g} and {high:.4g}"))
    if status.snr is not None:
        lines.append(_labelled("signal", f"{status.snr:.3g} times the noise (snr, squared norms)"))
    if status.dropped:
        lines.append(_labelled("left out", f"{counted(status.dropped, 'particle')} in these steps, not finite"))
    if status.checkpoint_step is not None:
        age = durations.ago(status.checkpoint_age or 0.0)
        lines.append(_labelled("checkpoint", f"of step {status.checkpoint_step:,}, {age}"))
    lines += _tasks(status, max(1, rows - len(lines)))
    return [line[: max(20, columns - 1)] for line in lines[: max(1, rows)]]


def one_line(status: RunStatus) -> str:
    """Returns the state of a run in a line, for files and pipes."""
    total = "" if status.num_steps is None else f" of {status.num_steps:,}"
    parts = [f"{status.folder}: {status.state}", f"step {status.step:,}{total}", f"loss {_number(status.loss)}"]
    if status.snr is not None:
        parts.append(f"snr {status.snr:.3g}")
    if status.compiling is not None:
        parts.append(f"no step yet after {durations.clock(status.compiling)}")
    if status.seconds_left is not None:
        parts.append(f"about {durations.clock(status.seconds_left)} left")
    if status.damage is not None:
        parts.append(status.damage)
    return ", ".join(parts)


def as_json(status: RunStatus, **more: Any) -> dict[str, Any]:
    """Returns the fields of a status, and others, as what JSON can hold: numbers that are not finite become None."""
    fields = status._asdict() | {"folder": str(status.folder)} | more
    fields["curve"] = [loss if math.isfinite(loss) else None for loss in status.curve]
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in fields.items()}


def sparkline(values: Sequence[float], width: int = 60, encoding: str | None = "utf-8") -> str:
    """Returns a curve of one line. Values that are not finite are shown as ×.

    The highest twentieth is as high as what is just below it, so that a first loss does not flatten all others.

    Args:
      values: from left to right.
      width: at most so many characters; more values are averaged.
      encoding: of the terminal. Without block characters, plain ones are used.

    Example:
      >>> sparkline([3.0, 2.0, float("nan"), 1.0])
      '█▅×▁'
      >>> sparkline([3.0, 2.0, float("nan"), 1.0], encoding="ascii")
      '#-x_'
    """
    share = max(1.0, len(values) / width)
    cuts = [round(i * share) for i in range(min(width, len(values)) + 1)]
    means = [_finite_mean(values[low:high]) for low, high in itertools.pairwise(cuts) if high > low]
    finite = [mean for mean in means if math.isfinite(mean)]
    levels, missing = (_BLOCKS, "×") if _can_encode(_BLOCKS + "×", encoding) else (_PLAIN, "x")
    low, high = (sorted(finite)[0], sorted(finite)[-1 - len(finite) // 20]) if finite else (0.0, 0.0)
    scale = (len(levels) - 1) / (high - low) if high > low else 0.0
    heights = [round((min(mean, high) - low) * scale) if math.isfinite(mean) else None for mean in means]
    return "".join(missing if height is None else levels[height] for height in heights)


def _state(status):
    if status.state == run_status.RUNNING:
        return f"running ({status.process})" if status.process else "running"
    if status.state == run_status.STOPPED and status.num_steps is None:
        return f"stopped, {durations.ago(status.age)}, before its end or at it"
    if status.state == run_status.STOPPED:
        return f"stopped, {durations.ago(status.age)}. Go on with the command that began it and --resume"
    return f"{status.state}, {durations.ago(status.age)}"


def _title(folder, state, width):
    """The folder and the state. Of a long folder the end is shown, so that the state stays in sight."""
    room = max(24, width - len(state) - 2)
    if len(folder) > room:
        folder = f"...{folder[3 - room :]}"
    return f"{folder}: {state}"


def _steps(status, width):
    """How far the run is, with a bar, and when it will end."""
    if status.num_steps is None:
        text = f"{status.step:,} (of how many is not written down)"
    else:
        share = min(1.0, status.step / status.num_steps)
        text = f"{status.step:,} of {status.num_steps:,}"
        room = min(30, width - 45)
        if room >= 10:
            text += f" [{'#' * int(share * room):.<{room}}]"
        text += f" {math.floor(100 * share)} %"
    if status.compiling is not None:
        return f"{text}, compiling for {durations.clock(status.compiling)}"
    left = status.seconds_left
    return text if left is None else f"{text}, about {durations.clock(left)} left"


def _tasks(status, room):
    """The losses of the tasks, as many as there is room for."""
    if len(status.task_losses) < 2:  # the mean says it
        return []
    width = min(40, max(map(len, status.task_losses)))
    items = list(status.task_losses.items())
    shown = items if len(items) <= room else items[: room - 1]
    lines = [f"{name[:width]:{width}} {_number(loss)}" for name, loss in shown]
    if len(shown) < len(items):
        lines.append(f"and {len(items) - len(shown)} more")
    return [_labelled("" if number else "tasks", line) for number, line in enumerate(lines)]


def _labelled(label, text):
    return f"{label:{_LABEL}}{text}"


def _number(value):
    return "not known" if value is None else f"{value:.4g}"


def _finite_mean(values):
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _can_encode(text, encoding):
    try:
        text.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
