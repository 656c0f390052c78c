"""`meta-train demo`: where it is stopped, and where it cannot write. What it does: tests/meta_train/test_main.py."""

from meta_train.cli import showcase as demo


def test_ctrl_c_says_how_to_go_on(run, tmp_path, capsys, monkeypatch):
    def stop(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", stop)
    assert run("demo", "--out", tmp_path) == 130
    assert capsys.readouterr().err == f"Stopped. Go on with the same command; what there is so far is in {tmp_path}.\n"


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "run", None)
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run("demo", "--out", tmp_path / "file") == 2
    assert "is no folder" in capsys.readouterr().err
