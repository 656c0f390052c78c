"""How far an adaptation is: a progress bar over all its phases, in seconds, which shows how many are left."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib

from meta_train.host import progress


class Clock:
    """Shows the time that all phases together take.

    Args:
      seconds: `() -> float`, how long the work has taken so far, earlier sessions included.
      total: how long it may take.
      bar: where to show it; it has counted what earlier sessions have taken.
    """

    def __init__(self, seconds: Callable[[], float], total: float, bar: progress.Bar) -> None:
        """Begins at what earlier sessions have taken."""
        self._seconds, self._total, self._bar = seconds, total, bar
        self._shown = _whole(seconds, total)

    @property
    def total(self) -> float:
        """How long all phases may take, in seconds."""
        return self._total

    def left(self) -> float:
        """Seconds until the work should be done."""
        return self._total - self._seconds()

    def tell(self, text: str) -> None:
        """Shows what is done now, and how much time is gone; the bar itself says how much is left."""
        reached = _whole(self._seconds, self._total)
        self._bar.set_postfix_str(text, refresh=False)  # a description would be printed with the old time
        self._bar.update(max(0, reached - self._shown))
        self._shown = max(reached, self._shown)


@contextlib.contextmanager
def shown(seconds: Callable[[], float], total: float, *, quiet: bool) -> Iterator[Clock]:
    """A clock with its bar.

    Args:
      seconds, total: as of `Clock`.
      quiet: shows nothing.

    Example:
      >>> with shown(lambda: 20.0, 60.0, quiet=True) as clock:
      ...     clock.left()
      40.0
    """
    with progress.bar(int(total), unit="second", initial=_whole(seconds, total), disable=quiet) as bar:
        yield Clock(seconds, total, bar)


def _whole(seconds, total):
    return min(int(seconds()), int(total))
