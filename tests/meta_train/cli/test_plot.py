"""`meta-train plot`: runs that are still going on, and damaged files."""

import json


def _line(step, **others):
    record = {
        "step": step,
        "loss": 1.0,
        "loss/a": 1.0,
        "grad_norm": 2.0,
        "dropped": 0,
        "inner_steps": 9,
        "seconds": 0.1,
    }
    return json.dumps(record | others) + "\n"


def test_a_run_that_is_still_going_on_is_drawn(run, tmp_path, capsys):
    """Its last line is being written, and a loss before was not finite."""
    text = _line(1) + _line(2, **{"loss": None, "loss/a": None, "grad_norm": None}) + _line(3) + '{"step": 4, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert run("plot", tmp_path) == 0
    assert capsys.readouterr().out == f"Wrote {tmp_path / 'curves.png'}\n"
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_damaged_line_is_named_and_nothing_drawn(run, tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(_line(1) + "{\n" + _line(3))
    assert run("plot", tmp_path) == 2
    assert f"{tmp_path / 'metrics.jsonl'}, line 2, is damaged: it is not JSON" in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


def test_a_run_that_has_just_begun(run, tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"st')
    assert run("plot", tmp_path) == 2
    assert "holds no run with metrics" in capsys.readouterr().err
