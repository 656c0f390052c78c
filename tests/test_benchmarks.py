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
    assert 0 < row["share_of_matmul_rate"] < 1
    # Forward and backward pass take 6 operations a weight and example; the first layer needs no gradient of its input.
    assert 0.8 < row["megaflops_per_inner_step"] / (128 * (4 * 64 * 32 + 6 * 32 * 10) / 1e6) < 2
    assert row["state_megabytes"] > 16 * 7 * 2410 * 4 / 1e6  # parameters and six momenta of every particle
    assert f"{row['inner_steps_per_second']:,}" in capsys.readouterr().out
