"""What is kept: found again for the same things, complete or not at all."""

import numpy as np
import pytest

from meta_train import kept


def test_names_tell_apart_what_they_are_made_of():
    parts = [("a", 1, (2, 3)), ("a", 1, (2, 4)), ("a", 2, (2, 3)), ("b", 1, (2, 3)), ("a", 12, (3,))]
    assert len({kept.name("title", *part) for part in parts}) == len(parts)
    assert kept.name("title", *parts[0]) == kept.name("title", *parts[0])
    assert kept.name("title").startswith("title-")


def test_digests_are_of_contents():
    data = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(3)}
    assert kept.digest(data) == kept.digest({**data, "x": np.asfortranarray(data["x"])})
    assert kept.digest(data) != kept.digest({**data, "y": np.arange(3) + 1})


def test_what_is_kept_is_not_computed_again(tmp_path):
    folder, made = tmp_path / "deeper", []

    def compute():
        made.append(1)
        return {"x": np.arange(3.0)}

    for _ in range(2):
        np.testing.assert_array_equal(kept.remember(folder, lambda: "it", compute)["x"], [0, 1, 2])
    assert len(made) == 1
    kept.remember(folder, lambda: "other", compute)
    kept.remember(None, None, compute)  # no name is needed where nothing is kept
    assert len(made) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["it.npz", "other.npz"]


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        kept.remember(tmp_path, lambda: "it", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())
