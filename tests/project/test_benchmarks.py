"""The benchmark scripts measure, and record what they measured on."""

import argparse
import functools
import json
import multiprocessing
import pathlib
import runpy
import subprocess
import sys
import types

import jax
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import optimizers
from meta_train.recipes import parts
from meta_train.recipes import secant_muon_plain_v1
from meta_train.training import engine
from meta_train.unroll import truncation

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.optax_promotion
def test_meta_training_benchmark_writes_its_record(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    case = "mlp 4, truncated backprop, 16 particles"
    monkeypatch.setattr(sys, "argv", ["meta_training.py", "--out", str(out), "--case", case, "--repeats", "1"])
    runpy.run_path(str(BENCHMARKS / "meta_training.py"), run_name="__main__")
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


@pytest.mark.optax_promotion
def test_update_step_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--out", str(out), "--size", "2e3", "1e4", "--kind", "mlp", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["update_step.py", *arguments])
    runpy.run_path(str(BENCHMARKS / "update_step.py"), run_name="__main__")
    rows = json.loads(out.read_text())["results"]
    assert [(row["size"], row["way"], row["name"]) for row in rows] == [
        (size, way, name)
        for size in (2000, 10000)
        for way in ("update", "in place")
        for name in ("optax.adam", "learned_optimizer()", "mlp")
    ]
    assert all(row["times_adam"] == 1.0 for row in rows if row["name"] == "optax.adam")
    states = [2, 6, 6] * 2 + [2, 3, 6] * 2  # in units of the parameters; the default samples up to 2,048 of a tensor
    assert [round(row["state"]) for row in rows] == states
    assert all(row["best_milliseconds"] <= row["milliseconds"] for row in rows)
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "10,000 parameters, in place" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_update_step_benchmark_measures_training_steps_of_models(tmp_path, monkeypatch, capsys):
    out = tmp_path / "figures.json"
    arguments = ["--size", "--models", "perceptron", "recurrent", "--quick", "--kind", "learned_sgd", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["update_step.py", *arguments, "--out", str(out)])
    names = runpy.run_path(str(BENCHMARKS / "update_step.py"))
    rivals = {name: names["RIVALS"][name] for name in ("optax.adam", "optax.contrib.schedule_free_adamw")}
    monkeypatch.setitem(names["main"].__globals__, "RIVALS", rivals)
    names["main"]()
    record = json.loads(out.read_text())
    assert record["results"] == []
    kinds = [*rivals, "learned_optimizer()", "learned_sgd"]
    sizes = {"perceptron": 6, "recurrent": 15}  # in tensors
    assert [(row["model"], row["name"]) for row in record["models"]] == [(m, name) for m in sizes for name in kinds]
    for row in record["models"]:
        assert row["tensors"] == sizes[row["model"]]
        assert min(row["milliseconds"], row["first_step_seconds"], row["first_step_cpu_seconds"]) > 0
    adam, schedule_free, *_ = record["models"]
    assert adam["times_adam"] == adam["first_step_times_adam"] == 1.0
    assert adam["state_bytes"] - 4 == 2 * 4 * (785 * 128 + 129 * 128 + 129 * 10)  # and a step counter
    assert round(schedule_free["state"]) == 2
    assert "recurrent, 15 tensors" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["perceptron", "convolutional", "transformer", "recurrent"])
def test_small_models_start_at_the_loss_of_a_guess_and_have_gradients_everywhere(model):
    make = runpy.run_path(str(BENCHMARKS / "small_models.py"))["MODELS"][model]
    params, loss_fn, data = make(0.125)
    assert model != "transformer" or len(jax.tree.leaves(params)) == 102
    loss, grads = jax.jit(jax.value_and_grad(loss_fn))(params, *data)
    classes = {"transformer": 1000, "recurrent": 64}.get(model, 10)
    assert abs(loss - np.log(classes)) < 1.0
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_update_step_benchmark_takes_architectures_and_files(tmp_path):
    script = types.SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "update_step.py")))
    path = str(tmp_path / "mine.safetensors")
    learned_optim.save(path, *learned_optim.load_pretrained("mlp-digits-v1"))
    assert [script.kind_or_file(name) for name in ("mlp", path)] == ["mlp", path]
    assert list(script.contenders([path])) == ["optax.adam", "learned_optimizer()", path]
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a \.safetensors file or one of adam_residual, "):
        script.kind_or_file("mpl")


@pytest.mark.optax_promotion
def test_scaling_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--quick", "--factor", "particles", "memory_over_horizon", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["scaling.py", *arguments])
    names = runpy.run_path(str(BENCHMARKS / "scaling.py"), run_name="__main__")
    record = json.loads(out.read_text())
    assert [row["particles"] for row in record["particles"]] == [2, 4]
    assert all(row["worst"] <= row["inner_steps_per_second"] <= row["best"] for row in record["particles"])
    assert record["particles"][1]["state_bytes"] > record["particles"][0]["state_bytes"]
    memory = [{**row, "horizon": None} for row in record["memory_over_horizon"]]
    assert memory[0] == memory[1]
    assert out.with_suffix(".png").stat().st_size > 10_000

    # A pair's two numbers are received from each other host; a ring all-reduce brings twice theta, less a share.
    row = names["bytes_per_outer_step"](100, hosts=10, pairs=3)
    assert (row["gradients"], row["losses"], row["smaller"]) == (720, 216, "losses")
    assert row["normals_drawn_a_host_with_losses"] == 10 * row["normals_drawn_a_host_with_gradients"] == 3000
    assert names["bytes_per_outer_step"](100, hosts=10, pairs=30)["smaller"] == "gradients"
    assert names["bytes_per_outer_step"](100, hosts=1, pairs=30)["smaller"] == "equal"


@pytest.mark.optax_promotion
def test_estimators_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    names = ["forward_mode", "pes", "truncated_backprop"]
    arguments = ["--quick", "--case", "influence-balancing", "--estimator", *names, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["estimators.py", *arguments])
    module = runpy.run_path(str(BENCHMARKS / "estimators.py"), run_name="__main__")
    (case,) = json.loads(out.read_text())["cases"]
    assert case["reference"]["norm"] == pytest.approx(2198.4937 / 30, rel=1e-4)
    rows = {row["estimator"]: row for row in case["results"]}
    assert list(rows) == names
    assert {row["inner_steps_of_a_sample"] for row in rows.values()} == {6 * 30}
    assert max(rows["forward_mode"]["distance"], rows["forward_mode"]["std"]) < 1e-5
    assert rows["truncated_backprop"]["bias"] == pytest.approx(1 - 511.7798 / 2198.4937, abs=0.02)
    assert 0 < rows["pes"]["distance"] < 5 * rows["pes"]["distance_by_noise"]
    assert all(row["seconds_of_an_outer_step"] > 0 for row in rows.values())
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "truncated_backprop  bias" in capsys.readouterr().out

    # A mean that is off by (3, 0) from (0, 4), in samples that scatter by 1 along the second axis.
    make = lambda gradients: module["Samples"](np.array(gradients, np.float64), 0, 1, 1, 1.0)
    figures = module["compare"](make([[3, 3], [3, 5]]), make([[0, 4], [0, 4]]))
    expected = {"bias": 8**0.5, "distance": 3.0, "distance_by_noise": 1.0, "std": 2**0.5, "rmse": 10**0.5}
    expected["cosine"] = 4 * 4 / 5
    assert figures == pytest.approx({name: value / 4 for name, value in expected.items()})
    assert module["make_case"]("trained", module["QUICK"], None).reference == "full_es"


# Processes that fork from one which has imported what they need, and has not used JAX yet.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["meta_train", "pytest"])


class Fork:
    """What kill_study.py uses of `subprocess.Popen`, for a Python script."""

    def __init__(self, command, **files):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            self._process = _FORKS.Process(target=runpy.run_path, args=(command[1], None, "__main__"))
            self._process.start()
        self.kill = self._process.kill

    def poll(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self.poll()

    returncode = property(poll)


@pytest.mark.optax_promotion
def test_kill_study_finds_no_difference(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "kills.json"
    arguments = ["--kills", "1", "--longest", "0.2", "--checkpoint-seconds", "0.05", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["kill_study.py", *arguments])
    names = runpy.run_path(str(BENCHMARKS / "kill_study.py"))
    forks = types.SimpleNamespace(Popen=Fork, STDOUT=subprocess.STDOUT)
    monkeypatch.setitem(names["start"].__globals__, "subprocess", forks)
    names["main"]()
    record = json.loads(out.read_text())
    assert record["theta_equal"] and record["every_step_once"] and record["metrics_equal"]
    (row,) = record["each_kill"]
    assert record["repeated"] == row["repeated"] == row["logged"] - row["saved"]
    assert record["num_steps"] == row["logged"] + 100
    assert "theta_equal: True" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_beyond_range_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    cases = ["horizon: 50 steps", "batch: 8"]
    monkeypatch.setattr(sys, "argv", ["beyond_range.py", "--quick", "--out", str(out), "--case", *cases])
    runpy.run_path(str(BENCHMARKS / "beyond_range.py"), run_name="__main__")
    rows = json.loads(out.read_text())["results"]
    assert [row["case"] for row in rows] == cases
    for row in rows:
        assert list(row["optimizers"]) == ["default", "Adam 1e-3"]
        assert all(0 < cell["training_loss"] < cell["first_loss"] < 3 for cell in row["optimizers"].values())
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "batch: 8" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_combinations_benchmark_writes_its_record(tmp_path, monkeypatch, capsys):
    out, some = tmp_path / "deeper" / "figures.json", ("alone", "MultiSteps(…, 2), half as many updates")
    monkeypatch.setattr(sys, "argv", ["combinations.py", "--quick", "--out", str(out)])
    names = runpy.run_path(str(BENCHMARKS / "combinations.py"))
    made = names["combinations"]("default", 200)
    monkeypatch.setitem(names["main"].__globals__, "combinations", lambda *_: {title: made[title] for title in some})
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    names["main"]()
    rows = json.loads(out.read_text())["results"]
    assert tuple(rows) == some
    assert rows[some[0]]["training_loss"] < rows[some[1]]["training_loss"] < np.log(10)  # half as many updates
    assert all(0 < row["held_out_accuracy"] < 1 for row in rows.values())
    assert "apply_if_finite(…, 10)" in made
    assert "MultiSteps" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_self_training_study_writes_its_record_and_a_plot_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--quick", "--case", "mlp", "--seeds", "1", "--devices", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["self_training.py", *arguments])
    names = runpy.run_path(str(BENCHMARKS / "self_training.py"))
    monkeypatch.setitem(names["main"].__globals__, "CASES", {"mlp": learned_optim.learned_adam})
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    names["main"]()
    record = json.loads(out.read_text())
    (summary,) = record["summaries"]
    best = summary["best"]
    assert list(best) == ["adamw", "frozen", "guarded", "population"]
    assert list(summary["outer"]) == list(dict.fromkeys([*best.values(), "frozen 1", "live 1"]))
    assert summary["throughput"][best["adamw"]] == 1.0
    assert summary["throughput"][best["guarded"]] > 0
    runs = [(row["outer"], row["seed"], row["share"]) for row in record["results"]]
    assert len(runs) == len(set(runs)) == 6 + len(summary["outer"]) + 2
    for row in record["results"]:
        assert len(row["meta_loss"]) == len(row["inner_steps"]) == 3
        np.testing.assert_allclose(row["inner_steps"][-1], 20 * row["share"] * 2 * 2 * 2, rtol=0.01)  # pairs × window
        assert row["skipped"] in (0, [0] * 5)
    (population,) = (row for row in record["results"] if row["outer"].startswith("population"))
    assert population["meta_loss"][0] == min(population["initial_meta_losses"])
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert not out.with_suffix(".partial.json").exists()
    assert "live" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_paper_figures_are_drawn_and_recorded(tmp_path, monkeypatch):
    figures = ["andrychowicz-quadratics", "nres-variance"]
    monkeypatch.setattr(sys, "argv", ["paper_figures.py", "--quick", "--out", str(tmp_path), "--figure", *figures])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    runpy.run_path(str(BENCHMARKS / "paper_figures.py"), run_name="__main__")
    record = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert list(record) == figures
    quadratics = record["andrychowicz-quadratics"]
    assert list(quadratics["final_loss"]) == ["LSTM", "SGD", "Nesterov", "RMSprop", "Adam"]
    assert 0 < quadratics["final_loss"]["LSTM"] < 0.1 * quadratics["first_loss"]  # tuned on two runs, others diverge
    rows = {(row["gradients"], row["windows"]): row for row in record["nres-variance"]["results"]}
    for (kind, windows), row in rows.items():  # fifty samples of a heavy-tailed square: a factor of two
        for name in ("PES", "NRES"):
            assert 0.5 < row[name] / row[f"{name}, formula"] < 2, (kind, windows, name)
    assert rows["orthogonal", 4]["PES, formula"] == 32 * 16 + 4
    assert rows["orthogonal", 4]["NRES, formula"] == 33 * 4
    for name in figures:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_paper_figures_compare_runs_that_began_alike():
    """Runs differ by ten, and the LSTM is ahead by .1 and .3 of the better baseline: .2 ± .1."""
    judge = runpy.run_path(str(BENCHMARKS / "andrychowicz.py"))["judged"]
    losses = {"LSTM": np.array([1.0, 11.0]), "SGD": np.array([1.1, 11.3]), "Adam": np.array([7.0, 8.0])}
    judged = judge(losses)
    assert judged["best_baseline"] == "SGD"
    np.testing.assert_allclose([judged["ahead_of_it"], judged["standard_error_of_that"]], [0.2, 0.1])
    np.testing.assert_allclose(judged["standard_error"]["LSTM"], 5.0)
    assert judged["loss"]["Adam"] == 7.5


@pytest.mark.optax_promotion
def test_slow_starts_benchmark_writes_its_record(tmp_path, monkeypatch, capsys):
    out = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["slow_starts.py", "--quick", "--program", "rnn", "--out", str(out)])
    runpy.run_path(str(BENCHMARKS / "slow_starts.py"), run_name="__main__")
    rows = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert [row["optimizer"] for row in rows] == ["its own", "default, num_steps", "default"]
    assert all(row["measure"] == "training loss" and 0 < row["median"] < 1 for row in rows)
    assert len({row["median"] for row in rows}) == 3
    assert "rnn" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_step_scales_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["mlp-digits-v1", "--prior", "adaptive_muon", "--task", "iris-mlp", "--quick", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["step_scales.py", *arguments])
    runpy.run_path(str(BENCHMARKS / "step_scales.py"), run_name="__main__")
    record = json.loads(out.read_text())
    assert list(record["results"]) == ["adaptive_muon, before training", "mlp-digits-v1"]
    for rows in record["results"].values():
        (row,) = rows
        training = np.array(row["training_loss"])
        assert len(training) == len(row["held_out_loss"]) == len(record["scales"]) == 5
        assert len(set(training)) == 5  # the scale reaches the optimizer
        assert row["regret"] == pytest.approx(np.log(training[record["scales"].index(1.0)] / training.min()))
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "iris-mlp" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_scan_constants_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    bias = optimizers.KINDS["adaptive_muon"]().init(jax.random.key(0))["control"]["bias"]
    same, other = f"bias={bias}", "omega=.02,k_size=-1"
    arguments = ["--task", "iris-mlp", "--change", same, other, "--quick", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["scan_constants.py", *arguments])
    names = runpy.run_path(str(BENCHMARKS / "scan_constants.py"))
    monkeypatch.setitem(names["main"].__globals__, "RATES", {"adamw-cosine": (1e-3, 1e-2)})
    monkeypatch.setitem(names["main"].__globals__, "REFERENCES", names["REFERENCES"][:3])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    names["main"]()
    record = json.loads(out.read_text())
    rows = {row["name"]: row for row in record["results"]}
    references = ["prodigy-muon-schedule-v1", "adamw-cosine, best training", "adamw-cosine, best held out"]
    assert list(rows)[-3:] == references
    for part in ("training", "held_out"):
        assert rows["prior"][f"{part}_change"] == 0.0
        assert rows[same][f"{part}_change"] == pytest.approx(0.0, abs=1e-5)  # that is the prior's bias
        (loss,), (of_prior,) = (rows[name][f"{part}_loss"] for name in (other, "prior"))
        assert rows[other][f"{part}_change"] == pytest.approx(np.log(loss / of_prior))
        assert loss > 1.01 * of_prior
    assert record["changes"][other] == {"omega": 0.02, "k_size": -1.0}
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "iris-mlp, 20 steps" in capsys.readouterr().out


def test_scan_constants_benchmark_changes_named_constants(monkeypatch, capsys):
    script = types.SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "scan_constants.py")))
    prior = optimizers.KINDS["adaptive_muon"]().init(jax.random.key(0))
    different = lambda new, old: int(np.sum(np.asarray(new) != old))
    theta = script.changed(prior, omega=0.006, lookahead=0.5, q_growth=-1.0)
    assert theta["decay"]["base"] == pytest.approx(np.log(0.006))
    assert theta["lookahead"] == 0.0
    moved = jax.tree.map(different, theta, prior)
    assert sum(jax.tree.leaves(moved)) == 3
    assert moved["decay"] == {"base": 1, "skip": 1}
    with pytest.raises(ValueError, match="omega must be positive, got 0"):
        script.changed(prior, omega=0.0)
    scan = script.one_at_a_time(prior)
    assert len(scan) == 2 * (len(script.CONSTANTS) - 3)  # without those that change nothing by themselves
    for values in scan.values():
        moved = jax.tree.map(different, script.changed(prior, **values), prior)
        assert sum(jax.tree.leaves(moved)) == 1, values
    monkeypatch.setattr(sys, "argv", ["scan_constants.py", "--change", "expansion=2"])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    with pytest.raises(SystemExit):
        script.main()
    assert "there is no constant 'expansion'. Did you mean 'q_expansion'?" in capsys.readouterr().err


def test_scan_constants_benchmark_makes_stand_ins_with_few_examples_and_wrong_labels(monkeypatch, tmp_path):
    script = types.SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "scan_constants.py")))
    assert {"iris-mlp", "quadratic-noisy", "digits-few"} <= set(script.usual_tasks(tmp_path))
    monkeypatch.setitem(script.STAND_INS, "right", ("digits", 8, 300, 0.0, lambda name, dataset: dataset))
    monkeypatch.setitem(script.STAND_INS, "wrong", ("digits", 8, 300, 0.5, lambda name, dataset: dataset))
    right, wrong = (script.get_task(name, None) for name in ("right", "wrong"))
    assert right.train_x.shape == wrong.train_x.shape == (300, 8, 8, 1)
    np.testing.assert_array_equal(right.train_x, wrong.train_x)
    np.testing.assert_array_equal(right.test_y, wrong.test_y)
    assert np.mean(right.train_y != wrong.train_y) == pytest.approx(0.5 * 0.9, abs=0.1)  # a tenth are right by chance
    assert script.get_task("digits-few", None).name == "digits-few"


@pytest.mark.optax_promotion
def test_gpu_benchmark_writes_its_record_and_a_plot_and_survives_failures(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--out", str(out)])
    names = runpy.run_path(str(BENCHMARKS / "gpu.py"))
    made = names["contenders"]()
    assert list(made) == ["optax.adam", "learned_optimizer()", "prodigy_muon", "optax.contrib.muon"]

    def fail(*_, **__):
        raise RuntimeError("planted")

    broken = optax.GradientTransformationExtraArgs(optax.adam(1e-3).init, fail)
    chosen = {**{name: made[name] for name in ("optax.adam", "optax.contrib.muon")}, "broken": broken}
    monkeypatch.setitem(names["main"].__globals__, "contenders", lambda: chosen)
    names["main"]()
    record = json.loads(out.read_text())
    device = record["device"]
    assert device["platform"] == "cpu" and device["precision_of_float32_products"] == "float32"
    assert min(device["bandwidth"], device["float32_product"], device["bfloat16_product"]) > 0
    for part in ("updates", "train-step"):
        rows = {row["name"]: row for row in record[part]}
        assert rows.keys() == chosen.keys()
        assert rows["broken"]["error"] == "RuntimeError: planted"
        adam, muon = rows["optax.adam"], rows["optax.contrib.muon"]
        assert adam["times_adam"] == 1.0
        assert muon["times_adam"] == pytest.approx(muon["milliseconds"] / adam["milliseconds"])
        assert round(adam["state"]) == 2 and round(muon["state"]) == 1  # in units of the parameters
        assert 0 < adam["best_milliseconds"] <= adam["milliseconds"]
        assert muon["matmul_flops"] > adam["matmul_flops"]
        assert adam["compiling"] == 0 and adam["in_turn"]
        assert adam["matmul_share"] > 0
    (meta,) = record["meta-training"]
    assert meta["pairs"] == 2
    assert 0 < meta["worst"] <= meta["inner_steps_per_second"] <= meta["best"]
    assert meta["flops_per_second"] == pytest.approx(meta["inner_steps_per_second"] * meta["flops_per_inner_step"])
    assert record["left_out"] == []
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "planted" in capsys.readouterr().out

    # Without any time, the record names what is missing.
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--minutes", "0", "--only", "updates", "--out", str(out)])
    job = names["Job"]("updates", {"size": 9}, {}, fail)
    monkeypatch.setitem(names["main"].__globals__, "make_jobs", lambda *_: [job])
    names["main"]()
    assert json.loads(out.read_text())["left_out"] == [{"part": "updates", "size": 9}]


@pytest.mark.optax_promotion
def test_gpu_benchmark_counts_and_names_what_does_not_fit():
    script = types.SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "gpu.py")))
    count = lambda make: sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(make)))
    assert count(lambda: script.gpt2_params(script.Model())) == 124_439_808
    for size in (10**6, 10**7, 10**8, 10**9):
        parameters = count(lambda size=size: script._fill(script.transformer_layers(size), 1.0))
        assert parameters == pytest.approx(size, rel=0.1)

    # A product takes two operations a weight and place, the scores and mixtures of attention four a width and pair of
    # places. The backward pass takes twice as many. The loop over layers counts in full.
    model = script.Model(layers=3, width=16, heads=2, vocabulary=64, context=8, batch=2)
    forward = 2 * 8 * (2 * (3 * 12 * 16**2 + 64 * 16) + 3 * 4 * 8 * 16)
    assert script.model_flops(model) == 3 * forward
    tokens = jax.random.randint(jax.random.key(0), (2, 9), 0, 64)
    params = script.gpt2_params(model)
    assert script.gpt2_loss(params, tokens, model) == pytest.approx(np.log(64), rel=0.05)  # of untrained weights

    program = script.Program(None, None, {}, resident=90, extra=20)
    figures = script.race({"a": program}, jax.ShapeDtypeStruct((), np.float32), 1, 1.0, limit=100)
    assert figures == {"a": {"error": "out of memory"}}


@pytest.mark.optax_promotion
def test_network_gain_trains_and_judges(tmp_path, monkeypatch, capsys):
    """The sibling without networks on one task, for one budget; runs that are finished are not repeated."""
    names = runpy.run_path(str(BENCHMARKS / "network_gain.py"))
    settings = names["main"].__globals__
    optimizer = learned_optim.secant_muon(0, 0)
    small = secant_muon_plain_v1.recipe(num_steps=2)._replace(
        estimators=(
            parts.backprop_on_final_losses(
                optimizer,
                "quadratic",
                num_particles=1,
                horizon=truncation.constant(3),
                horizon_dropout=0.0,
                held_out=False,
                floor=1e-5,
            ),
        )
    )
    for name, value in {
        "KINDS": {"plain": lambda **fields: small._replace(**fields)},
        "BUDGETS": (8,),
        "STEPS": (5,),
        "SEEDS": 1,
    }.items():
        monkeypatch.setitem(settings, name, value)
    arguments = [
        "network_gain.py",
        "--steps",
        "16",
        "--seeds",
        "0",
        "--task",
        "quadratic-noisy",
        "--out",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", [*arguments, "--train", "plain"])
    names["main"]()
    assert not (tmp_path / "record.json").exists()
    theta = (tmp_path / "plain-0-2" / "theta.safetensors").read_bytes()
    monkeypatch.setitem(settings, "recipes", None)  # no run is begun again
    monkeypatch.setattr("sys.argv", arguments)
    names["main"]()
    assert (tmp_path / "plain-0-2" / "theta.safetensors").read_bytes() == theta
    record = json.loads((tmp_path / "record.json").read_text())
    assert [(row["kind"], row["outer_steps"], row["share"]) for row in record["rows"]] == [
        ("plain", 2, 1.0),
        ("plain", 2, 0.25),
    ]
    assert np.shape(record["log_losses"]["quadratic-noisy"]) == (1, 2, 3)
    assert record["log_losses"]["quadratic-noisy"][0][0][0] != record["log_losses"]["quadratic-noisy"][0][0][1]
    assert (tmp_path / "curve.png").stat().st_size > 0
    assert "plain     seed 0" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_learned_loss_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--quick", "--part", "rotation", "--way", "EvoGrad", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["learned_loss.py", *arguments])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    runpy.run_path(str(BENCHMARKS / "learned_loss.py"), run_name="__main__")
    rows = json.loads(out.read_text())["summary"]
    expected = [("nothing, all", "plain"), ("nothing, trusted only", "plain"), ("angle", "EvoGrad")]
    assert [(row["learned"], row["way"]) for row in rows] == expected
    assert all(0 <= row["accuracy"] <= row["best_accuracy"] < 1 for row in rows)
    assert rows[2]["temporary_bytes"] > 0 and rows[2]["degrees"] != 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "rotation  angle" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_synthetic_data_benchmark_writes_its_record_and_pictures(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--quick", "--size", "4", "--per-class", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["synthetic_data.py", *arguments])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    runpy.run_path(str(BENCHMARKS / "synthetic_data.py"), run_name="__main__")
    record = json.loads(out.read_text())
    (row,) = record["results"]
    assert list(row["accuracy"]) == ["real", "matched", "unrolled"]
    assert all(len(each["each"]) == 2 * 2 for found in row["accuracy"].values() for each in found.values())
    assert [len(each["losses"]) for each in row["matching"] + row["unrolling"]] == [2] * 4
    assert 0.1 not in row["rates"] and 0 < record["whole"]["mean"] < 1
    assert out.with_name("figures_1.png").stat().st_size > 5_000
    assert "1 unrolled" in capsys.readouterr().out


@pytest.mark.optax_promotion
def test_architecture_benchmark_writes_its_record_and_a_picture(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--quick", "--size", "4", "--way", "first order", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["architecture.py", *arguments])
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    script = runpy.run_path(str(BENCHMARKS / "architecture.py"))
    chosen = lambda *given: {"REINFORCE": contenders(*given)["REINFORCE, softmaxes"]}
    contenders = script["contenders"]
    monkeypatch.setitem(script["main"].__globals__, "contenders", chosen)
    script["main"]()
    record = json.loads(out.read_text())
    (row,) = record["cells"]["found"]
    assert row["way"] == "first order" and row["choices"] in ([1], [2])
    assert len(record["cells"]["random"]["accuracy"]) == 3 and 0 <= row["percentile"] <= 100
    (searched,) = record["controller"]["controllers"]
    assert len(record["controller"]["errors"]) == 3 and searched["regret"] >= 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "first order" in capsys.readouterr().out

    # The best of two random cells by validation, of which each pair is as likely.
    trained = script["Trained"](np.array([[0.1], [0.3], [0.2]]), np.array([[0.5], [0.9], [0.6]]), 1.0)
    assert script["best_of"](trained, 2) == pytest.approx((2 * 0.9 + 0.6) / 3)


@pytest.mark.optax_promotion
def test_penalties_benchmark_writes_its_record_and_a_plot(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["penalties.py", "--quick", "--part", "penalties", "--out", str(out)])
    names = runpy.run_path(str(BENCHMARKS / "penalties.py"))
    monkeypatch.setitem(names["main"].__globals__, "SOLVERS", {"identity": names["SOLVERS"]["identity"]})
    names["main"]()
    record = json.loads(out.read_text())
    single, learned = record["penalties"]["results"]
    assert (single["way"], learned["way"]) == ("best single", "identity") and single["coefficient"] > 0
    assert len(learned["curves"]["valid_error"]) == names["QUICK"].outer_steps
    assert learned["valid_loss"] < single["valid_loss"] and learned["not_finite"] == 0
    assert [row["way"] for row in record["penalties"]["summary"]] == ["best single", "identity"]
    assert out.with_suffix(".penalties.png").stat().st_size > 10_000
    assert "few   linear     best single" in capsys.readouterr().out


def test_long_derivatives_benchmark_writes_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(learned_optim, "secant_muon", functools.partial(learned_optim.secant_muon, 2, 2))
    out = tmp_path / "deeper" / "figures.json"
    arguments = ["--task", "quadratic", "--steps", "3", "--backward", "2", "--episodes", "8", "--es", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["long_derivatives.py", *arguments])
    runpy.run_path(str(BENCHMARKS / "long_derivatives.py"), run_name="__main__")
    record = json.loads(out.read_text())
    assert record["change"]["without the networks"][0] < 0
    assert record["snr"]["all"] > record["snr of evolution strategies"]
    assert "evolution strategies: SNR" in capsys.readouterr().out
