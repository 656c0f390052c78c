"""Tasks by name or by file."""

import pytest

from meta_train.cli import named_task


def test_as_many_batches_are_kept_as_the_longest_run_has_steps(tmp_path, model, capsys):
    batches = "def batches(key):\n    while True:\n        yield np.random.normal(size=(1, 2))"
    path = model("data = np.ones((6, 2))\nbatch_size = 2", batches)
    for horizons, kept in ((), 1000), ((5, 10), 1000), ((10, 1200), 1200):
        assert len(named_task.load(str(path), horizons).data.train) == kept
    assert capsys.readouterr().err.startswith("mine: 2 parameters, batches to train on: 1,000; without held_out")


def test_a_name_means_a_named_task():
    assert named_task.load("quadratic", ()).name == "quadratic"


def test_a_folder_or_a_file_of_another_kind_is_no_task(tmp_path):
    for path in (tmp_path, tmp_path / "mine.txt"):
        path.exists() or path.write_text("", encoding="utf-8")
        with pytest.raises(ValueError, match=r"must end with \.py, got "):
            named_task.load(str(path), ())
