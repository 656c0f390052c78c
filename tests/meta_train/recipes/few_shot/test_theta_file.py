"""`save_theta` and `load_theta`: back bit for bit, and nothing that is damaged or of another kind."""

from typing import NamedTuple

import numpy as np
import pytest

from meta_train.recipes.few_shot import theta_file


class Theta(NamedTuple):
    params: dict
    rate: np.ndarray


def theta(value=0.5):
    return Theta({"head": {"b": np.full(3, value, np.float32), "w": np.ones((2, 3), np.float32).T}}, np.float32(value))


def test_what_is_saved_comes_back(tmp_path):
    theta_file.save_theta(tmp_path / "new" / "theta.safetensors", theta())
    loaded = theta_file.load_theta(tmp_path / "new" / "theta.safetensors", theta(0.0))
    assert isinstance(loaded, Theta)
    assert loaded.rate == np.float32(0.5)
    for name in ("b", "w"):
        np.testing.assert_array_equal(loaded.params["head"][name], theta().params["head"][name])


def test_a_single_array(tmp_path):
    theta_file.save_theta(tmp_path / "theta.safetensors", np.arange(2.0))
    assert theta_file.load_theta(tmp_path / "theta.safetensors", np.zeros(2)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_file_of_what_diverged(value, tmp_path):
    with pytest.raises(ValueError, match="'params/head/b' holds NaN or infinity: training diverged"):
        theta_file.save_theta(tmp_path / "theta.safetensors", theta(value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("like", "named"),
    [
        (theta()._replace(rate=np.zeros(1, np.float32)), "differs in 'rate'"),
        (theta()._replace(rate=np.float16(0)), "differs in 'rate'"),
        (theta()._replace(params={}), "differs in 'params/head/b', 'params/head/w'"),
        ({}, "differs in .* and others|differs in 'params"),
    ],
)
def test_a_theta_of_another_kind(like, named, tmp_path):
    theta_file.save_theta(tmp_path / "theta.safetensors", theta())
    with pytest.raises(ValueError, match=named):
        theta_file.load_theta(tmp_path / "theta.safetensors", like)


def test_no_safetensors_file(tmp_path):
    (tmp_path / "theta.safetensors").write_bytes(b"not a file of this kind")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        theta_file.load_theta(tmp_path / "theta.safetensors", theta())
    with pytest.raises(FileNotFoundError):
        theta_file.load_theta(tmp_path / "none.safetensors", theta())
