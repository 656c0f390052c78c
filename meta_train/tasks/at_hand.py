"""Tasks whose data are at hand, and what to do about the others."""

from collections.abc import Sequence
from typing import NamedTuple

from meta_train import data
from meta_train.data import missing as data_missing
from meta_train.data import tfds
from meta_train.host.counted import counted
from meta_train.tasks import suites
from meta_train.tasks.base import Task
from meta_train.tasks.source import WrongSizeError


class AtHand(NamedTuple):
    """What `load` gives."""

    tasks: list[Task]
    left_out: dict[str, str]  # names of the other tasks -> the data sets that they need
    reasons: tuple[str, ...]  # why an attempt to download some of them failed, or why some that are there do not do


def load(names: Sequence[str]) -> AtHand:
    """Builds the tasks whose data are at hand, or can be downloaded by tensorflow-datasets.

    Args:
      names: keys of `TASKS`.

    Raises:
      ValueError: if there is no such task, or its data are damaged.
      FileNotFoundError: if the folder of data sets does not exist, and a task needs one.

    Example:
      >>> [task.name for task in load(["wine-softmax"]).tasks]
      ['wine-softmax']
    """
    if not all(map(suites.is_embedded, names)):
        data.available("")  # raises if the folder of data sets does not exist: below, data would seem to be missing
    built, left_out, reasons = [], {}, []
    for name in names:
        source = suites.source(name)
        if source is not None and source.name in left_out.values():  # one attempt to download it is enough
            left_out[name] = source.name
            continue
        try:
            built.append(suites.get(name))
        except (FileNotFoundError, WrongSizeError) as error:
            if source is None:
                raise
            left_out[name] = source.name
            if error.__cause__ is not None or isinstance(error, WrongSizeError):  # the cause is of a download
                reasons.append(str(error).partition("\n")[0])
    return AtHand(built, left_out, tuple(reasons))


def explain(found: AtHand) -> str:
    """Says which tasks were left out, and how to get their data; "" if none was."""
    if not found.left_out:
        return ""
    wanted = tuple(dict.fromkeys(found.left_out.values()))
    total = counted(len(found.tasks) + len(found.left_out), "task")
    lines = [
        f"{len(found.left_out)} of {total} left out, for their data are not at hand: {', '.join(found.left_out)}.",
        f"They need {', '.join(wanted)}: put the files, as docs/data.md says, in a folder, and name it by --data-dir.",
    ]
    downloads = [name for name in wanted if name in tfds.NAMES]
    if downloads and not tfds.installed():
        lines.append(f"Or let tensorflow-datasets bring {', '.join(downloads)}: {data_missing.INSTALL_TFDS}.")
    return "\n".join([*lines, *found.reasons])
