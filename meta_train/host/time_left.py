"""Estimates when work ends that is made of pieces of different size."""

from collections.abc import Callable
import time

from meta_train.host import durations

_WORTH_TELLING = 5.0  # seconds; an estimate from less is too rough


class TimeLeft:
    """Counts the pieces that are done, and tells what the rest takes at their pace."""

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins to count.

        Args:
          total: the size of all pieces, in any unit.
          clock: gives seconds.
        """
        self._total, self._done, self._clock, self._began = total, 0.0, clock, clock()

    def done(self, size: float) -> None:
        """Counts a piece that was worked on."""
        self._done += size

    def skip(self, size: float) -> None:
        """Takes out a piece that needed no work, so that the pace of the others is not overestimated."""
        self._total -= size

    def text(self) -> str:
        """Returns the estimate in words, or "" as long as there is none.

        Example:
          >>> times = iter([0.0, 60.0])
          >>> left = TimeLeft(10.0, lambda: next(times))
          >>> left.done(4.0)
          >>> left.text()
          'about 1:30 left'
        """
        seconds, rest = self._clock() - self._began, self._total - self._done
        if self._done <= 0.0 or rest <= 0.0 or seconds < _WORTH_TELLING:
            return ""
        return f"about {durations.clock(seconds * rest / self._done)} left"
