"""The list of tasks: figures of a task that is known, and what is said where data are missing."""

import pytest

from meta_train import data
from meta_train.tasks import listing


def test_describes_softmax_regression():
    line = listing.describe("wine-softmax")
    assert (line.suite, line.family, line.data, line.found) == ("test", "softmax_regression", "wine", "scikit-learn")
    assert line.parameters == 13 * 3 + 3
    products = 2 * 32 * 13 * 3  # of the forward pass; the gradient of the weights costs as much
    assert 2 * products < line.flops < 4 * products
    assert round(line.scale, 4) == 1.0986


def test_missing_data_are_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "available", lambda name, data_dir=None: None)
    line = listing.describe("cifar-conv")
    assert (line.data, line.found, line.parameters, line.flops, line.scale) == ("cifar10 16×16", None, None, None, None)
    text = listing.table([line, listing.describe("quadratic")])
    header, missing, drawn, note = text.splitlines()
    assert "a step: loss and gradient" in note
    assert header.split()[:5] == ["task", "suite", "family", "data", "from"]
    assert missing.split() == ["cifar-conv", "full", "convnet", "cifar10", "16×16", "missing"]
    assert drawn.split()[:4] == ["quadratic", "meta-train", "quadratic", "drawn"]
    assert drawn.split()[-1] == "11"


def test_data_of_another_size_are_said_to_be_so(tmp_path):
    (tmp_path / "names.txt").write_text("ann\nbob\nzoe\n")
    line = listing.describe("names-gru", data_dir=str(tmp_path))
    assert (line.data, line.found, line.parameters) == ("names", "wrong size", None)
    assert "names  wrong size" in listing.table([line])


def test_an_unknown_task():
    with pytest.raises(ValueError, match="no task 'quadratics'"):
        listing.describe("quadratics")
