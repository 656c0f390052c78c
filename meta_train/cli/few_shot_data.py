"""The episodes that `--data` of `meta-train few-shot` names, and the network that learns them."""

import enum
import pathlib
from typing import NamedTuple

from meta_train import data
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.few_shot import conv4
from meta_train.few_shot import episodes
from meta_train.few_shot import perceptron
from meta_train.few_shot import sinusoids

CHANNELS = 32  # of the convolutions: a fourth of the work of the papers' 64
_JUDGED_POINTS = 100  # of a sinusoid's query set in evaluation


class DataKind(enum.Enum):
    """What episodes are made of."""

    DIGITS = "digits"
    OMNIGLOT = "omniglot"
    SINUSOID = "sinusoid"


class Setting(NamedTuple):
    """What is learned, by what."""

    kind: DataKind
    training: Episodes
    judged: Episodes  # to be drawn from with `test` data; the query sets may be larger
    network: Network
    ways: int | None  # None where there are no classes
    shots: int
    queries: int


def build(
    kind: DataKind,
    *,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    channels: int | None = None,
    data_dir: pathlib.Path | None = None,
) -> Setting:
    """Builds the episodes and the network.

    Args:
      kind: of the data.
      ways: classes of an episode; None: 5. Not for sinusoids.
      shots: support examples of each class, or of a sinusoid; None: 1 of a class, 10 of a sinusoid.
      queries: query examples likewise, in training; None: 5 of a class, 10 of a sinusoid.
      channels: of the convolutions; None: 32. Not for sinusoids.
      data_dir: folder of data sets.

    Raises:
      ValueError: if a number is out of range or is not for such data.
      FileNotFoundError: if the data are not at hand.
    """
    if kind is DataKind.SINUSOID:
        for name, value in (("--ways", ways), ("--channels", channels)):
            if value is not None:
                raise ValueError(f"{name} is for pictures, and --data sinusoid has none: leave it out.")
        shots, queries = 10 if shots is None else shots, 10 if queries is None else queries
        training, judged = sinusoids(shots, queries), sinusoids(shots, _JUDGED_POINTS)
        return Setting(kind, training, judged, perceptron(1), None, shots, queries)
    ways, shots, queries = (
        number if given is None else given for given, number in ((ways, 5), (shots, 1), (queries, 5))
    )
    if ways < 2:
        raise ValueError(f"--ways must be at least 2, for there is nothing to tell apart in {ways}.")
    split = data.digit_classes() if kind is DataKind.DIGITS else data.omniglot(data_dir=data_dir)
    rotations = kind is DataKind.OMNIGLOT  # the classes of digits are turned already
    made = episodes(split, ways, shots, queries, rotations=rotations)
    network = conv4(ways, CHANNELS if channels is None else channels, strided=True)
    return Setting(kind, made, made, network, ways, shots, queries)
