"""`fit`: that it learns, what it records, and that an interrupted run ends where an uninterrupted one does."""

import _thread
import functools
import json
import multiprocessing
import random
import runpy
import shutil
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import Estimator
from meta_train import Problem
from meta_train import data
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import Info
from meta_train.host import parallel
from meta_train.training import engine
from meta_train.training import fit as train
from meta_train.training import run_lock
from meta_train.training import run_session
from meta_train.training import run_status
from meta_train.unroll import truncation

THETA = {"x": np.array([3.0, -4.0], np.float32)}


def _bowl(name="bowl", noise=1.0, num_particles=2):
    """An estimator of the gradient of |x|^2 / 2, with noise that is remembered from step to step. Quick to compile."""

    def estimate(key, theta, state, data, axis_name=None):
        state = 0.5 * state + noise * jax.random.normal(key)
        gradient = {"x": theta["x"] + jax.lax.pmean(jnp.mean(state), axis_name)}
        info = Info(0.5 * jnp.sum(theta["x"] ** 2), jnp.asarray(0, jnp.int32), jnp.asarray(30, jnp.int32))
        return gradient, state, info

    init = lambda key, theta: noise * jax.random.normal(key, (num_particles,))
    return Estimator(init, estimate, (), num_particles, name)


def _fragile(horizon):
    """PES on |theta - 2|^2 plus noise that is remembered, with NaN in three of ten episodes."""

    def step(key, theta, state, data):
        health, noise = state
        noise = 0.5 * noise + jnp.sum(theta["x"]) * jax.random.normal(key)
        loss = jnp.sum((theta["x"] - 2) ** 2) + 0.01 * noise
        return (health, noise), jnp.where(health < 0.3, jnp.nan, loss)

    problem = Problem(lambda key, theta, num_steps: (jax.random.uniform(key), jnp.zeros(())), step)
    length = truncation.constant(horizon)
    return estimators.pes(problem, num_particles=20, unroll_length=2, horizon=length, std=0.1)


def _fit(estimator=None, theta=THETA, outer_optimizer=None, **arguments):
    """`fit` on the bowl with defaults for these tests."""
    arguments = {"num_steps": 20, "steps_per_dispatch": 3, "progress": False} | arguments
    outer_optimizer = optax.sgd(0.1, momentum=0.9) if outer_optimizer is None else outer_optimizer
    return fit(_bowl() if estimator is None else estimator, theta, outer_optimizer, **arguments)


@functools.cache
def _left_alone():
    """The run of twenty steps that nothing interrupts."""
    return _fit()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "run"
    _fit(num_steps=12, run_dir=folder)
    return folder


@pytest.fixture
def twelve_steps(original, tmp_path):
    """The folder of a run that made 12 of its 20 steps, a copy for each test."""
    return shutil.copytree(original, tmp_path / "run")


def _without_time(metrics):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in metrics]


def _assert_same(result, expected):
    np.testing.assert_array_equal(result.theta["x"], expected.theta["x"])
    assert _without_time(result.metrics) == _without_time(expected.metrics)


def _logged(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.optax_promotion
def test_meta_training_on_digits_lowers_the_loss():
    """A zero gradient would leave the loss where it is, a negated one would raise it."""
    task = tasks.softmax_regression("digits", data.load("digits"), batch_size=32)
    optimizer = learned_optim.mlp((4,), step_multiplier=0.03)
    problem = problems.optimizer_weights(optimizer, task)
    horizon = truncation.constant(20)
    estimator = estimators.pes(problem, num_particles=8, unroll_length=10, horizon=horizon, std=0.03)
    theta = jax.jit(optimizer.init)(jax.random.key(0))
    result = fit(estimator, theta, optax.adam(0.03), num_steps=40, progress=False)
    losses = [record["loss/digits"] for record in result.metrics]
    assert np.mean(losses[-5:]) < np.mean(losses[2:7]) - 0.4  # the first two windows hold shorter episodes


def test_metrics(tmp_path):
    result = _fit([_bowl("a", noise=0.0), _bowl("b", noise=0.0)], num_steps=7, run_dir=tmp_path, clip_norm=None)
    assert isinstance(result.theta["x"], np.ndarray)
    assert [record["step"] for record in result.metrics] == list(range(1, 8))
    first = {"step": 1, "loss": 12.5, "loss/a": 12.5, "loss/b": 12.5, "grad_norm": 5.0, "dropped": 0, "inner_steps": 60}
    first |= {"gradient_variance": None, "snr": None}  # which these estimators do not tell
    assert _without_time(result.metrics)[0] == first
    assert all(record.keys() == first.keys() | {"seconds"} for record in result.metrics)
    assert _logged(tmp_path) == result.metrics
    seconds = [record["seconds"] for record in result.metrics]
    assert seconds == sorted(seconds)


def test_gradient_descent_by_hand():
    result = _fit(_bowl(noise=0.0), outer_optimizer=optax.sgd(0.1), num_steps=5, clip_norm=None)
    np.testing.assert_allclose(result.theta["x"], THETA["x"] * 0.9**5, rtol=1e-6)
    np.testing.assert_allclose([r["loss"] for r in result.metrics], 12.5 * 0.81 ** np.arange(5), rtol=1e-6)


@pytest.mark.parametrize(("clip_norm", "moved"), [(0.5, 0.5), (1.0, 1.0), (10.0, 5.0), (None, 5.0)])
def test_clip_norm(clip_norm, moved):
    """The gradient (3, -4) has norm 5. The metrics tell that norm, clipped or not."""
    result = _fit(_bowl(noise=0.0), outer_optimizer=optax.sgd(1.0), num_steps=1, clip_norm=clip_norm)
    np.testing.assert_allclose(THETA["x"] - result.theta["x"], moved * np.array([0.6, -0.8]), rtol=1e-5)
    assert result.metrics[0]["grad_norm"] == 5.0


def test_a_learned_optimizer_as_outer_optimizer():
    learned = learned_optim.mlp((4,), step_multiplier=0.1)
    tx = learned.transform(learned.init(jax.random.key(0)))
    result = _fit(_bowl(noise=0.0), outer_optimizer=tx, num_steps=4, clip_norm=None)
    theta = jax.tree.map(jnp.asarray, THETA)
    state, update = tx.init(theta), jax.jit(tx.update)
    for _ in range(4):
        updates, state = update(theta, state, theta)
        theta = optax.apply_updates(theta, updates)
    np.testing.assert_allclose(result.theta["x"], theta["x"], rtol=1e-5)
    assert np.all(abs(result.theta["x"] - THETA["x"]) > 1e-3)


def test_training_goes_on_without_the_particles_that_diverge():
    """Three episodes in ten give NaN. All else is as usual: the rest move theta to 2."""
    result = _fit(_fragile(horizon=2), outer_optimizer=optax.sgd(0.05), num_steps=100, clip_norm=None)
    dropped = np.array([record["dropped"] for record in result.metrics])
    assert abs(dropped.mean() - 6) < 4 * np.sqrt(20 * 0.3 * 0.7 / 100)
    assert np.all(np.isfinite([record["loss"] for record in result.metrics]))
    np.testing.assert_allclose(result.theta["x"], 2, atol=0.2)


@pytest.mark.parametrize("counts", [(7, 20), (3, 4, 20), (20, 20)])
def test_resume_is_bit_for_bit(tmp_path, counts):
    expected = _left_alone()
    for count in counts:
        result = _fit(num_steps=count, run_dir=tmp_path, resume=True)
        assert len(result.metrics) == count
    _assert_same(result, expected)
    assert _logged(tmp_path) == result.metrics


def test_what_a_session_is_to_do_is_written_down_and_not_needed_to_resume(tmp_path):
    """Runs of earlier versions have no such file."""
    _fit(num_steps=7, run_dir=tmp_path)
    assert run_session.read(tmp_path)[:2] == (7, 0)
    assert run_status.read(tmp_path).state == "finished"
    (tmp_path / "session.json").unlink()
    _assert_same(_fit(run_dir=tmp_path, resume=True), _left_alone())
    assert run_session.read(tmp_path)[:2] == (20, 7)
    found = run_status.read(tmp_path)
    assert (found.state, found.step, found.checkpoint_step, found.damage) == ("finished", 20, 20, None)


@pytest.mark.parametrize(
    "tail", ['{"step": 13, "lo', '{"step": 13, "loss": 1.0}\n', '{"step": 13}\n{"step": 14}\n{"st', "\0\0\0", "\n"]
)
def test_lines_that_a_killed_run_left_are_replaced(twelve_steps, tail):
    with (twelve_steps / "metrics.jsonl").open("a") as file:
        file.write(tail)
    result = _fit(run_dir=twelve_steps, resume=True)
    _assert_same(result, _left_alone())
    assert _logged(twelve_steps) == result.metrics


def test_an_unreadable_checkpoint(tmp_path):
    """The run goes on from the one before, with the numbers of a run that was left alone."""
    _fit(num_steps=7, run_dir=tmp_path)
    _fit(num_steps=12, run_dir=tmp_path, resume=True)
    for path in (tmp_path / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.warns(UserWarning, match="goes on from checkpoint 7, for what is newer cannot be used") as warned:
        result = _fit(run_dir=tmp_path, resume=True)
    assert warned[0].filename == __file__
    _assert_same(result, _left_alone())
    assert _logged(tmp_path) == result.metrics


def test_losses_that_are_not_finite_are_null_in_the_file(tmp_path):
    """Every episode is NaN, so that no particle is left. A resumed run has the metrics of one that was left alone."""
    start = lambda key, theta, num_steps: jnp.full((), jnp.nan)
    problem = Problem(start, lambda key, theta, state, data: (state, state))
    estimator = estimators.pes(problem, num_particles=2, unroll_length=2, horizon=truncation.constant(2))
    _fit(estimator, num_steps=2, run_dir=tmp_path)
    result = _fit(estimator, num_steps=4, run_dir=tmp_path, resume=True)
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["loss"] for line in lines] == [None] * 4
    assert np.isnan([record["loss"] for record in result.metrics]).all()
    np.testing.assert_equal(_without_time(result.metrics), _without_time(_fit(estimator, num_steps=4).metrics))


def test_what_is_wrong_with_the_folder_is_found_before_anything_is_compiled(twelve_steps, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("of the user")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("")
    built = engine.build([_bowl()], optax.sgd(0.1), steps_per_dispatch=3)
    untouched = built._replace(init=lambda *arguments, **options: pytest.fail("compiled"))
    monkeypatch.setattr(engine, "build", lambda *arguments, **options: untouched)
    for name, arguments, message in (
        ("file", {}, r"run_dir \(--out\) must be a folder that can be written to, got .*file"),
        ("damaged", {"resume": True}, r"run\.json, line 1, is damaged"),
        ("run", {}, r"already holds a run: pass resume=True"),
        ("run", {"resume": True, "seed": 1}, "holds another run, whose seed differ"),
        ("run", {"resume": True, "num_steps": 11}, "holds a run of 12 outer steps already, more than num_steps=11"),
    ):
        with pytest.raises(ValueError, match=message):
            _fit(run_dir=tmp_path / name, **arguments)
    with pytest.raises(ValueError, match="another run is at work in"), run_lock.held(twelve_steps):
        _fit(run_dir=twelve_steps, resume=True)


def test_a_run_with_nothing_left_to_do_compiles_no_steps(tmp_path, monkeypatch):
    expected = _fit(num_steps=4, run_dir=tmp_path)
    monkeypatch.setattr(parallel, "aside", lambda work: pytest.fail("compiled"))
    _assert_same(_fit(num_steps=4, run_dir=tmp_path, resume=True), expected)


def test_ctrl_c_during_compilation_interrupts_at_once(tmp_path, monkeypatch):
    """It is pressed while the run waits for its program. Nothing is lost, for nothing was made."""

    class Compilation:
        def result(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background begin with it ignored
    try:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(parallel, "aside", lambda works: [Compilation()])
            _fit(run_dir=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert _lines(tmp_path) == []
    _assert_same(_fit(run_dir=tmp_path, resume=True), _left_alone())


def test_a_folder_that_holds_a_run(twelve_steps):
    with pytest.raises(ValueError, match=r"already holds a run: pass resume=True"):
        _fit(run_dir=twelve_steps)
    with pytest.raises(ValueError, match="holds a run of 12 outer steps already, more than num_steps=11"):
        _fit(num_steps=11, run_dir=twelve_steps, resume=True)
    _assert_same(_fit(run_dir=twelve_steps, resume=True), _left_alone())  # none of it did harm


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"estimator": _bowl("other")}, "tasks"),
        ({"estimator": [_bowl(), _bowl("second")]}, "tasks"),
        ({"estimator": _bowl(num_particles=4)}, "particles"),
        ({"theta": {"x": np.array([3.0, -4.5], np.float32)}}, "theta"),
        ({"theta": {"x": np.zeros(3, np.float32)}}, "shapes"),
        ({"outer_optimizer": optax.sgd(0.1)}, "structure"),
        ({"clip_norm": None}, "structure"),
    ],
)
def test_another_run_is_not_resumed(twelve_steps, change, named):
    with pytest.raises(ValueError, match=rf"holds another run, whose (.*, )?{named}(, .*)? differ"):
        _fit(run_dir=twelve_steps, resume=True, **change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"seed": -1}, r"seed must lie between 0 and 2\*\*32 - 1, got -1"),
        ({"seed": 2**32}, r"seed must lie between 0 and 2\*\*32 - 1, got 4294967296"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, or None for no clipping, got 0.0"),
        ({"clip_norm": float("nan")}, "clip_norm must be positive, or None for no clipping, got nan"),
        ({"theta": {"x": np.array([1.0, np.nan], np.float32)}}, r"theta\['x'\] holds NaN or infinity"),
        ({"estimator": []}, "at least one estimator, got none"),
        ({"estimator": [_bowl(), _bowl()]}, "tasks must have different names"),
        ({"devices": []}, "devices must name at least one device"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        _fit(**arguments)


def test_integer_theta_is_refused():
    with pytest.raises(TypeError, match=r"theta must be floating-point, but theta\['x'\] is int32"):
        _fit(theta={"x": np.array([3, -4], np.int32)})


@pytest.mark.optax_promotion
def test_an_outer_optimizer_with_a_random_key_in_its_state_is_saved_and_resumed(tmp_path):
    noisy = optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(0)), optax.sgd(0.1))
    whole = _fit(outer_optimizer=noisy)
    _fit(outer_optimizer=noisy, num_steps=9, run_dir=tmp_path)
    _assert_same(_fit(outer_optimizer=noisy, run_dir=tmp_path, resume=True), whole)


def test_progress_goes_to_standard_error(capsys):
    _fit(progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "20 of 20 steps" in captured.err
    assert "\r" not in captured.err  # no redrawn bar, for nobody looks at a terminal
    assert "inner steps/s" in captured.err


def test_outside_of_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(_fit()))
    thread.start()
    thread.join()
    _assert_same(results[0], _left_alone())


def test_ctrl_c_saves_a_last_checkpoint(tmp_path):
    """A second thread presses it once twenty steps are logged; no checkpoint was due by then."""

    def press():
        while len(_lines(tmp_path)) < 20:
            time.sleep(0.001)
        _thread.interrupt_main()

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        _fit(num_steps=1_000_000, run_dir=tmp_path, checkpoint_seconds=1e9)
    done = len(_logged(tmp_path))
    assert done >= 20
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()] == [done]
    _assert_same(_fit(num_steps=done + 5, run_dir=tmp_path, resume=True), _fit(num_steps=done + 5))


def test_the_second_ctrl_c_interrupts_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), train._deferred_interrupts() as interrupts:
        assert not interrupts
        signal.raise_signal(signal.SIGINT)
        assert interrupts
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def _long_run(run_dir):
    return _fit(_fragile(horizon=6), num_steps=1500, run_dir=run_dir, resume=True, checkpoint_seconds=0.02)


# Processes that fork from one which has imported what they need, and has not used JAX yet.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["meta_train", "pytest"])


def _start(run_dir):
    process = _FORKS.Process(target=runpy.run_path, args=(__file__, {"RUN_DIR": run_dir}, "a run to be killed"))
    process.start()
    return process


def _lines(run_dir):
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def test_a_run_that_is_killed_again_and_again(tmp_path):
    """It ends with the very theta and metrics of a run that was left alone."""
    draw = random.Random(0)
    for _ in range(3):
        process = _start(tmp_path)
        enough = len(_lines(tmp_path)) + draw.randint(1, 200)
        while len(_lines(tmp_path)) < enough and process.is_alive():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))  # in the middle of a checkpoint, a dispatch or a line
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = _start(tmp_path)
    process.join()
    assert process.exitcode == 0
    left_alone = _long_run(None)
    assert (tmp_path / "theta").read_bytes() == left_alone.theta["x"].tobytes()
    assert len(left_alone.metrics) == 1500
    assert _without_time(_logged(tmp_path)) == _without_time(left_alone.metrics)


if __name__ == "a run to be killed":  # and resumed, by the last test
    jax.config.update("jax_num_cpu_devices", 2)
    (RUN_DIR / "theta").write_bytes(_long_run(RUN_DIR).theta["x"].tobytes())  # noqa: F821  # given by `_start`
