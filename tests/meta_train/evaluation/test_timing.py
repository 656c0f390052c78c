"""Times of steps: of each optimizer in turn, without compilation."""

import time

import jax
import optax
import pytest

from meta_train import tasks
from meta_train.evaluation import timing

pytestmark = pytest.mark.optax_promotion


def _waiting(seconds):
    """Steepest descent that waits in each step."""

    def wait(updates):
        time.sleep(seconds)
        return updates

    def update(updates, state, params=None):
        del params
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), updates)
        return jax.pure_callback(wait, shapes, updates, vmap_method="sequential"), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_a_step_takes_as_long_as_it_waits():
    task = tasks.quadratic(size=2)
    lines = []
    contenders = {"slow": _waiting(0.02), "slower": lambda num_steps: _waiting(0.06)}
    found = timing.time_steps(task, contenders, ("adam", "adam-trials"), num_rounds=3, progress=lines.append)
    assert list(found) == ["slow", "slower", "Adam (tuned)", "Adam (20 trials)"]
    assert found["slow"].step_seconds >= 0.02 > found["Adam (tuned)"].step_seconds
    assert found["slower"].step_seconds >= 0.06
    assert all(each.compile_seconds > 0 for each in found.values())
    assert len(lines) == 4


def test_all_optimizers_have_their_turn_in_each_round(monkeypatch):
    turns = []

    def runner(program, point):
        name = len({number for number, _ in turns})
        turns.append((name, 0))
        return lambda steps: turns.append((name, steps)) or 1.0

    monkeypatch.setattr(timing, "_runner", runner)
    found = timing.time_steps(tasks.quadratic(size=2), {"one": optax.sgd(0.1)}, ("adam-1e-3",), num_rounds=3)
    assert [name for name, _ in turns[-6:]] == [0, 1] * 3
    assert {each.step_seconds for each in found.values()} == {1.0}


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match="num_rounds must be at least 1, got 0"):
        timing.time_steps(tasks.quadratic(), {}, (), num_rounds=0)
    with pytest.raises(ValueError, match="no baseline 'adma'"):
        timing.time_steps(tasks.quadratic(), {}, ("adma",))
