"""Progress bars: drawn by tqdm on a terminal; in a file or a pipe, a line from time to time."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
import sys
import time
from typing import Any
from typing import Protocol
from typing import TextIO

from meta_train.host import durations
from meta_train.host.counted import counted
from meta_train.host.time_left import TimeLeft

LINE_SECONDS = 30.0  # from one line to the next, unless another tenth of the work is done
_WITHOUT_ESTIMATE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # as tqdm means it


class TellFn(Protocol):
    """Tells the user what is being done, such as `print`."""

    def __call__(self, line: str, /) -> None:
        """Tells it.

        Args:
          line: a line of text, without a line break.
        """
        ...


class Bar(Protocol):
    """What `bar` makes, a part of tqdm's interface; a context manager."""

    def update(self, n: int = 1) -> Any:
        """Reports that n more pieces of work are done."""
        ...

    def set_description(self, text: str, /) -> None:
        """Shows what is being worked on."""
        ...

    def set_postfix_str(self, text: str, /, refresh: bool = True) -> None:
        """Shows intermediate results; `refresh=False` waits for the next update."""
        ...

    def write(self, text: str, /, file: TextIO | None = None) -> None:
        """Prints text, by default to standard output, without spoiling the bar."""
        ...

    def __enter__(self) -> "Bar":
        """Returns the bar."""
        ...

    def __exit__(self, error_type: Any, error: Any, traceback: Any, /) -> Any:
        """Leaves the bar as it is."""
        ...


def bar(
    total: int | None,
    *,
    unit: str,
    initial: int = 0,
    disable: bool = False,
    delay: float = 0.0,
    leave: bool = True,
    estimate: bool = True,
) -> Bar:
    """Makes a progress bar on standard error.

    Args:
      total: pieces of work in all; None if that is not known.
      unit: what a piece is called.
      initial: pieces that are done already.
      disable: shows nothing.
      delay: shows nothing before this number of seconds.
      leave: whether the bar stays on the terminal at its end.
      estimate: whether to show the time that is left, as if all pieces were of one size.

    Example:
      >>> with bar(3, unit="step", disable=True) as shown:
      ...     for _ in range(3):
      ...         _ = shown.update()
    """
    if disable or sys.stderr.isatty():
        import tqdm  # here, so that the command line starts without it, to say what is missing

        return tqdm.tqdm(
            total=total,
            unit=unit,
            initial=initial,
            disable=disable,
            delay=delay,
            leave=leave,
            dynamic_ncols=True,
            bar_format=None if estimate else _WITHOUT_ESTIMATE,
        )
    return _Lines(total, unit, initial, delay, estimate)


def over(items: Collection[Any], *, unit: str, delay: float = 0.0, leave: bool = True) -> Iterator[Any]:
    """Yields the items, with a progress bar.

    Example:
      >>> list(over([], unit="task"))
      []
    """
    with bar(len(items), unit=unit, delay=delay, leave=leave) as shown:
        for item in items:
            yield item
            shown.update()


class _Lines:
    """A bar for files and pipes: a line each tenth of the work, or after half a minute without one."""

    def __init__(
        self,
        total: int | None,
        unit: str,
        initial: int,
        delay: float,
        estimate: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._unit, self._done, self._clock = total, unit, initial, clock
        self._began = clock()
        self._left = TimeLeft(total - initial, clock) if estimate and total is not None else None
        self._next_time = self._began + max(delay, LINE_SECONDS)
        self._quiet_until = self._began + delay
        self._tenths = self._reached()
        self._description = self._postfix = ""

    def update(self, n: int = 1) -> None:
        self._done += n
        if self._left is not None:
            self._left.done(n)
        self._perhaps_print()

    def set_description(self, text: str) -> None:
        self._description = text
        self._perhaps_print()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        self._postfix = text
        if refresh:
            self._perhaps_print()

    def write(self, text: str, file: TextIO | None = None) -> None:
        print(text, file=file, flush=True)

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def _reached(self):
        return 10 * self._done // self._total if self._total else 0

    def _perhaps_print(self):
        now = self._clock()
        if now < self._quiet_until or (now < self._next_time and self._reached() <= self._tenths):
            return
        self._tenths, self._next_time = self._reached(), now + LINE_SECONDS
        done = counted(self._done, self._unit)
        if self._total is not None:
            done = f"{self._done:,} of {counted(self._total, self._unit)}"
        parts = [f"{done} in {durations.clock(now - self._began)}", "" if self._left is None else self._left.text()]
        parts = [text for text in (*parts, self._postfix, self._description) if text]
        print(", ".join(parts), file=sys.stderr, flush=True)
