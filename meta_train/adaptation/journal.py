"""What an adaptation has measured so far, in a file: a run that was stopped reads it and goes on.

The search is a function of its measurements and its settings. So the journal holds both, a JSON object a line, and
going on means to run again and to read what is there instead of measuring it, on another machine if need be.
"""

from collections.abc import Callable
import json
import math
import os
import pathlib
import time
from typing import Any

from meta_train.host.counted import counted

_VERSION = 2
_ROUNDING = 1e-4  # by which floats in the settings may differ, as they do between machines


class Journal:
    """Measurements by name, in the order in which they were made.

    Args:
      path: the file; None keeps nothing.
      settings: all that the measurements depend on, as JSON values; floats are compared up to rounding.
      resume: whether to go on with the file if it exists.
      what: what to call the work in errors.

    Raises:
      ValueError: if there is a file and resume is False, or it was made with other settings.

    Example:
      >>> journal = Journal(None, {"steps": 3}, resume=False)
      >>> journal.recall("two", lambda: 2), journal.recall("two", lambda: 3)
      (2, 2)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: dict[str, Any],
        *,
        resume: bool,
        what: str = "an adaptation",
    ) -> None:
        """Reads the file, or begins it."""
        self._what = what
        self._path = None if path is None else pathlib.Path(path)
        self._found: dict[str, Any] = {}
        self._before = 0.0  # seconds that earlier sessions worked
        self._began = time.perf_counter()
        settings = json.loads(json.dumps({"version": _VERSION, **settings}))
        if self._path is None:
            return
        if not self._path.is_file() or not (resume or _has_work(self._path)):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        elif resume:
            self._read(self._path, settings)
        else:
            raise ValueError(
                f"{self._path.parent} holds {self._what} already: go on with it by --resume (resume=True in Python), "
                "or choose another folder."
            )

    def seconds(self) -> float:
        """How long this and earlier sessions have worked."""
        return self._before + time.perf_counter() - self._began

    def recall(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of a name: from the file, or made now and written there.

        Args:
          name: what is measured; it stands for the same in all sessions.
          measure: makes the measurement, of JSON values.
        """
        if name not in self._found:
            value = measure()
            self._found[name] = value
            if self._path is not None:
                line = json.dumps({"name": name, "seconds": round(self.seconds(), 2), "value": value})
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
        return self._found[name]

    def knows(self, name: str) -> bool:
        """Whether there is a measurement of the name."""
        return name in self._found

    def _read(self, path, settings):
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the process was killed while it wrote
        known = lines[0].get("settings") if lines else None
        other = sorted(key for key in settings if not known or not _alike(known.get(key), settings[key]))
        if other:
            raise ValueError(
                f"{path.parent} holds {self._what} with other settings: {counted(len(other), 'setting')} "
                f"({', '.join(other)}). Give the same ones as then, or choose another folder."
            )
        for line in lines[1:]:
            self._found[line["name"]] = line["value"]
            self._before = line["seconds"]
        kept = [json.dumps(line) for line in lines]
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")  # without a half line at the end


def _has_work(path):
    """Whether there is more than settings and the first measurement, after which a run may be refused."""
    return len(path.read_text(encoding="utf-8").splitlines()) > 2


def _alike(one, other):
    """Whether JSON values are equal, floats up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=1e-7)
    return one == other
