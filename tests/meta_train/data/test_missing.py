"""What to do about missing data: ways that work for the set and on the machine, and only these."""

import configparser
import pathlib
import re

import pytest

from meta_train.data import data_folder
from meta_train.data import missing as data_missing
from meta_train.data import tfds as data_tfds
from meta_train.tasks import suites

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(params=[False, True], ids=["without tensorflow-datasets", "with tensorflow-datasets"])
def installed(request, monkeypatch):
    monkeypatch.setattr(data_tfds, "installed", lambda: request.param)
    return request.param


@pytest.mark.parametrize("name", [*data_missing.KNOWN, "sunspots"])
def test_every_set_has_a_way_without_a_release_of_this_library(name, installed):
    text = data_missing.ways(name, None)
    assert "--data-dir, data_dir= or LEARNED_OPTIM_DATA" in text
    assert "learned_optim[tfds]" not in text
    assert f"{name}.npz" in text or f"{name}.csv" in text or f"{name}.txt" in text
    assert "scikit-learn" in text and "--embedded" in text


def test_files_are_asked_for_by_their_names(tmp_path):
    assert f"{tmp_path} or one of its subfolders" in data_missing.ways("mnist", tmp_path)
    for name in data_folder.IDX_FILES:
        assert name in data_missing.ways("mnist", tmp_path)
    assert "cifar10.npz with the arrays train_x, train_y, test_x, test_y" in data_missing.ways("cifar10", None)
    assert "cifar10/train/CLASS/*.png and cifar10/test/CLASS/*.png (or .jpg)" in data_missing.ways("cifar10", None)
    assert "cifar10.tar, .tar.gz, .tar.xz or .zip" in data_missing.ways("cifar10", None)
    assert "docs/data.md says how to make one of cifar10" in data_missing.ways("cifar2k", None)
    assert "makemore/master/names.txt: save it as names.txt" in data_missing.ways("names", None)
    assert "yacht.csv, or yacht/data.csv and yacht/test_mask.csv" in data_missing.ways("yacht", None)
    assert data_folder.wanted("sunspots") in data_missing.ways("sunspots", None)


def test_tensorflow_datasets_is_named_where_it_helps(installed):
    assert ("pip install '.[tfds]' in a checkout" in data_missing.ways("mnist", None)) == (not installed)
    assert ("with a network and TensorFlow" in data_missing.ways("mnist", None)) == installed
    assert ("If tensorflow-datasets has it" in data_missing.ways("sunspots", None)) == (not installed)
    for name in ("yacht", "names", "cifar2k"):  # it does not have these
        assert "tensorflow-datasets" not in data_missing.ways(name, None)
    assert "git clone" in data_missing.ways("yacht", None)


def test_the_packages_are_those_of_the_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = config["options.extras_require"]["tfds"].split()
    packages = data_missing.INSTALL_TFDS.partition("anywhere pip install ")[2].split()
    assert packages == [re.match(r"[\w-]+", requirement)[0] for requirement in extra]


def test_the_sets_of_all_named_tasks_are_known():
    wanted = {entry.source.name for name, entry in suites.TASKS.items() if not suites.is_embedded(name)}
    assert wanted <= set(data_missing.KNOWN)
    assert set(data_tfds.NAMES) <= set(data_missing.KNOWN)
