"""The data set of a named task, in the one size that its name stands for."""

from typing import NamedTuple

from meta_train import data
from meta_train.data import missing as data_missing


class Counts(NamedTuple):
    """How large a data set is: examples, or the characters of a text."""

    train: int
    held_out: int


COUNTS = {
    "airfoil": Counts(1_353, 150),
    "bike": Counts(15_642, 1_737),
    "cifar10": Counts(50_000, 10_000),
    "cifar2k": Counts(2_000, 500),
    "energy": Counts(692, 76),
    "fashion_mnist": Counts(60_000, 10_000),
    "kin40k": Counts(36_000, 4_000),
    "mnist": Counts(60_000, 10_000),
    "names": Counts(205_331, 22_814),
    "pol": Counts(13_500, 1_500),
    "protein": Counts(41_157, 4_573),
    "tiny_shakespeare": Counts(1_003_855, 111_539),
    "yacht": Counts(278, 30),
}
"""The sizes of all data sets of named tasks that scikit-learn does not bundle."""


class WrongSizeError(ValueError):
    """The data of a name are at hand, but in another size than a named task has."""


class Source(NamedTuple):
    """A data set by name, and how it is prepared."""

    name: str
    size: int | None = None  # height and width that images are brought to
    gray: bool = False

    @property
    def counts(self) -> Counts | None:
        """The size that the data set must have; None if scikit-learn bundles it."""
        return COUNTS.get(self.name)

    def load(self, data_dir: str | None = None) -> data.Dataset | data.Text:
        """Loads it; see `data.load`.

        Raises:
          WrongSizeError: if its size is not `counts`.
        """
        dataset = data.load(self.name, size=self.size, gray=self.gray, data_dir=data_dir)
        if self.counts is not None:
            _check(self.name, self.counts, dataset, data_dir)
        return dataset


def _check(name, expected, dataset, data_dir):
    if isinstance(dataset, data.Text):
        unit, found = "characters", Counts(len(dataset.train), len(dataset.test))
    else:
        unit, found = "examples", Counts(len(dataset.train_x), len(dataset.test_x))
    if found != expected:
        where = "the folder" if data.available(name, data_dir) == "folder" else "tensorflow-datasets"
        raise WrongSizeError(
            f"the data set {name!r} of named tasks has {expected.train:,} {unit} to train on and "
            f"{expected.held_out:,} held out, got {found.train:,} and {found.held_out:,} from {where}: "
            "a name stands for one data set, so that figures compare.\n"
            f"Replace what is there, or name another folder.\n{data_missing.ways(name, None)}"
        )
