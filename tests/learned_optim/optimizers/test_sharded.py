"""The promise for sharded models: devices exchange about a twentieth of the parameters' bytes, and updates are equal.

For the default and for prodigy_muon, on eight virtual devices. `benchmarks/sharding.py` reads the compiled programs,
in a process of its own because tests have two devices.
"""

import json
import pathlib
import runpy
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "benchmarks" / "sharding.py"


def test_devices_exchange_little_and_compute_the_same_updates(tmp_path):
    """Sums are all that devices exchange: no tensor or part of one is gathered, or moves to another device."""
    out = tmp_path / "deeper" / "figures.json"
    command = [sys.executable, "-W", "error", str(SCRIPT), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["results"]
    limits = {"learned_optimizer()": 0.0545, "prodigy_muon": 0.0501}  # the default exchanges samples, too
    cases = list(runpy.run_path(str(SCRIPT))["CASES"])
    assert [(row["case"], row["optimizer"]) for row in rows] == [(case, name) for case in cases for name in limits]
    for row in rows:
        assert set(row["bytes"]) <= {"all-reduce"}, row
        assert row["total"] == row["bytes"].get("all-reduce", 0.0) < limits[row["optimizer"]], row
        assert (row["total"] == 0.0) == (row["case"] == "shard_map"), row
        assert row["difference"] < 1e-5, row
    assert f"{rows[0]['total']:.4f}" in done.stdout
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_the_results_of_collective_operations_are_counted():
    moved = runpy.run_path(str(SCRIPT))["moved"]
    program = """
      %all-reduce.1 = (f32[4,8]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1, to_apply=%add
      %gathered = bf16[2,3]{1,0} all-gather(%c), dimensions={0}
      ROOT %start = f32[5]{0} all-reduce-start(%all-gather.7), to_apply=%add
      %done = f32[5]{0} all-reduce-done(%start)
      %fusion = f32[100]{0} fusion(%all-to-all.3), kind=kLoop
    """
    assert moved(program) == {"all-reduce": 4 * (32 + 1 + 5), "all-gather": 2 * 6}
    with pytest.raises(ValueError, match="has a loop, whose messages would count once: %loop"):
        moved(program + "%loop = (s32[], f32[5]) while(%init), condition=%c, body=%b")
