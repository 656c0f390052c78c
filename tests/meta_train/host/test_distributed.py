"""Several processes on this machine: the same numbers as one, and a clear end when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import learned_optim
from meta_train import __main__ as command_line
from meta_train.host import distributed
from meta_train.training import engine
from meta_train.training import fit

# Quick to compile, and long enough to be killed on the way. In all processes, a checkpoint follows each dispatch.
RECIPE = """
import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.training.fit import fit
from meta_train.unroll import truncation

fit.__kwdefaults__["checkpoint_seconds"] = 0.0


def recipe(num_steps=120, seed=0):
    optimizer = learned_optim.mlp((2,))
    problem = problems.optimizer_weights(optimizer, tasks.quadratic(size=2))
    horizon = truncation.constant(6)
    estimator = estimators.pes(problem, num_particles=4, unroll_length=4, horizon=horizon)
    return Recipe(optimizer, optimizer.init(jax.random.key(0)), (estimator,), optax.adam(1e-3), num_steps, seed)
"""


def _train(out, *arguments):
    """Runs the command line in this process; it starts the others. Returns the exit status."""
    recipe = out.parent / "recipe.py"
    recipe.write_text(RECIPE)
    with pytest.raises(SystemExit) as end:
        command_line.main(["train", str(recipe), "--out", str(out), *arguments])
    return end.value.code


def _kill_a_child(out, training_ended, killed):
    """Kills the second of the processes that this one starts, once there is a checkpoint."""
    find = ["pgrep", "-P", str(os.getpid()), "-f", "--", "--process-id 1$"]
    found = ""
    while not (found and _saved(out)) and not training_ended.is_set():
        time.sleep(0.01 if found else 0.5)
        found = found or subprocess.run(find, capture_output=True, text=True, check=False).stdout
    os.kill(int(found), signal.SIGKILL)
    killed.append(int(found))


def _saved(out):
    """The outer steps of the whole checkpoints."""
    return [int(path.name) for path in (out / "checkpoints").glob("*") if path.name.isdecimal()]


def _lines(out):
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _assert_same(out, expected):
    theta, wanted = (learned_optim.load(folder / "theta.safetensors")[1] for folder in (out, expected))
    # Each process sums its own particles, as each device of one process does: nothing differs but the transport.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), theta, wanted)
    rows, wanted_rows = ([json.loads(line) for line in _lines(folder)] for folder in (out, expected))
    assert [row["step"] for row in rows] == [row["step"] for row in wanted_rows]
    np.testing.assert_allclose([r["loss"] for r in rows], [r["loss"] for r in wanted_rows], rtol=1e-5)


@pytest.mark.optax_promotion
def test_two_processes_make_the_run_of_one_and_survive_the_death_of_one_of_them(tmp_path, monkeypatch, capfd):
    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    monkeypatch.setitem(fit.fit.__kwdefaults__, "checkpoint_seconds", 0.0)  # here the recipe's change is undone
    assert _train(one) == 0  # on the two devices of this process

    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # of each process
    capfd.readouterr()
    training_ended, killed = threading.Event(), []
    thread = threading.Thread(target=_kill_a_child, args=(two, training_ended, killed))
    thread.start()
    assert _train(two, "--num-processes", "2") == signal.SIGKILL
    training_ended.set()
    thread.join()
    assert len(killed) == 1
    errors = capfd.readouterr().err
    assert "process 1 of 2 was killed by signal 9, so the others were stopped" in errors
    assert "--resume" in errors
    assert 10 <= max(_saved(two)) <= len(_lines(two)) < 120

    assert _train(two, "--num-processes", "2", "--resume") == 0, capfd.readouterr().err
    assert capfd.readouterr().out.count("theta.safetensors. Next:") == 1  # process 0 alone speaks
    _assert_same(two, one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("a:1", 2, 2), "got 2 of 2"), (("a:1", 2, -1), "got -1 of 2"), (("localhost", 2, 0), "HOST:PORT")],
)
def test_numbers_that_do_not_fit_are_refused_before_anything_waits(arguments, message):
    with pytest.raises(ValueError, match=message):
        distributed.initialize(*arguments)


def test_sigterm_and_bad_arguments_stop_all_processes(monkeypatch, capfd):
    """Of two, the first asks for the launcher's end by SIGTERM, or ends with status 2."""

    class Process:
        def __init__(self, command, env):
            self.is_first = command[-1] == "0"

        def poll(self):
            return first() if self.is_first else None

        kill = wait = lambda self: stopped.append(self.is_first)

    monkeypatch.setattr(distributed.subprocess, "Popen", Process)
    before = signal.getsignal(signal.SIGTERM)
    first, stopped = lambda: signal.raise_signal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as end:
        distributed.launch(["train"], 2)
    assert (end.value.code, stopped) == (143, [True, True, False, False])
    assert signal.getsignal(signal.SIGTERM) is before
    first, stopped = lambda: 2, []
    assert distributed.launch(["train"], 2) == 2
    assert stopped == [True, True, False, False]
    assert capfd.readouterr().err == "meta-train: process 0 of 2 failed with status 2, so the others were stopped.\n"


def test_processes_get_the_devices_that_the_user_chose(monkeypatch):
    class Ended:
        def __init__(self, command, env):
            given.append(env["JAX_NUM_CPU_DEVICES"])

        poll = kill = wait = lambda self: 0

    given = []
    monkeypatch.setattr(distributed.subprocess, "Popen", Ended)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    assert distributed.launch(["train"], 2) == 0
    assert given == ["3", "3"]


def test_a_process_ends_with_its_launcher(monkeypatch):
    """The launcher is gone, by SIGKILL as it may be, once the parent is another process."""
    parents, slept = iter([7, 7, 1]), []
    monkeypatch.setattr(distributed.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(distributed.time, "sleep", slept.append)
    monkeypatch.setattr(distributed.os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        distributed._end_with(7)
    assert end.value.code == 1 and len(slept) == 2


def test_alone_the_only_process_decides():
    assert distributed.is_main()
    assert distributed.decision_of_main(True)
    assert not distributed.decision_of_main(False)
    assert distributed.all_agree(True)
    assert not distributed.all_agree(False)


def test_what_main_cannot_do_ends_all(monkeypatch):
    done = []
    distributed.do_in_main(lambda: done.append("once"))
    with pytest.raises(KeyError, match="the message"):
        distributed.do_in_main(lambda: {}["the message"])
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    distributed.do_in_main(lambda: done.append("twice"))
    monkeypatch.setattr(distributed, "decision_of_main", lambda choice: False)
    with pytest.raises(ValueError, match="process 0 could not go on; its own message says why"):
        distributed.do_in_main(lambda: done.append("thrice"))
    assert done == ["once"]
