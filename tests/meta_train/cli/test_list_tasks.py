"""`meta-train tasks`: a line for each task, and where its data are."""

from meta_train import data
from meta_train import tasks


def test_tasks_are_listed_with_data_from_a_folder(tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "suite", lambda name: ("quadratic", "yacht-mlp"))
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, "")
    rows = [f"{x},{2 * x},{x**2 + 0.5}" for x in range(308)]  # as many as the name stands for
    (tmp_path / "yacht.csv").write_text("\n".join(rows))
    (tmp_path / "yacht.test_mask.csv").write_text("\n".join(["1"] * 30 + ["0"] * 278))
    assert run("tasks", "--suite", "test", "--data-dir", tmp_path) == 0
    _, _, yacht, *_ = capsys.readouterr().out.splitlines()
    size = 2 * 24 + 24 + 24 * 24 + 24 + 25
    assert yacht.split()[:6] == ["yacht-mlp", "test", "tabular", "yacht", "folder", str(size)]
