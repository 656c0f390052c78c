"""The benchmark script measures, and records what it measured on."""

import json
import pathlib
import runpy
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "benchmarks" / "meta_training.py"


@pytest.mark.optax_promotion
def test_meta_training_benchmark_writes_its_record(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    case = "mlp 4, truncated backprop, 16 particles"
    monkeypatch.setattr(sys, "argv", ["meta_training.py", "--out", str(out), "--case", case, "--repeats", "1"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    record = json.loads(out.read_text())
    (row,) = record["results"]
    assert row["case"] == case
    assert row["devices"] == record["machine"]["devices"] == 2
    assert row["worst"] == row["best"] == row["inner_steps_per_second"] > 0
    assert record["versions"]["jax"]
    assert f"{row['inner_steps_per_second']:,}" in capsys.readouterr().out
