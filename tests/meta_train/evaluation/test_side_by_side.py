"""Large models are trained alone, small ones side by side; the number of lanes changes no result."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import lanes
from meta_train.evaluation import protocol
from meta_train.evaluation import side_by_side
from meta_train.evaluation import tuning
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.base import num_parameters

TASK = Task(
    name="bowl",
    data=np.float32(1.0),
    sample=lambda key: (),
    init=lambda key, config: {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(4)},
    loss=lambda params, key, data, config: data * (jnp.sum(params["w"] ** 2) + jnp.sum((params["b"] - 1) ** 2)),
    evaluate=lambda params, key, data, config: {"loss": jnp.sum(params["w"]) + jax.random.normal(key, ())},
    normalize=log_normalizer(1.0),
)


@pytest.fixture
def widths(monkeypatch):
    """The widths of programs, as they are built."""
    found, build = [], lanes.build

    def spy(task, make, *, width, **rest):
        found.append(width)
        return build(task, make, width=width, **rest)

    monkeypatch.setattr(lanes, "build", spy)
    return found


@pytest.mark.parametrize(("most", "tuned", "expected"), [(9, True, 1), (9, False, 1), (10, True, 5), (10, False, 3)])
def test_the_number_of_parameters_decides(most, tuned, expected, monkeypatch):
    """The bowl has ten."""
    monkeypatch.setattr(side_by_side, "MOST_PARAMETERS", most)
    assert side_by_side.num_lanes(TASK, 3, tuned=tuned) == expected
    assert side_by_side.num_lanes(TASK, 8, tuned=True) == (1 if expected == 1 else 8)


@pytest.mark.parametrize("convolves", [False, True])
def test_a_model_with_convolutions_is_trained_alone(convolves):
    """Also where the convolution is within another transformation, as a scan."""

    def twice(row):
        return jax.lax.scan(lambda x, _: (jax.lax.conv(x, row[..., :3], (1,), "SAME"), None), row, None, length=2)[0]

    def loss(params, key, data, config):
        row = jnp.ones((1, 1, 5))
        return jnp.sum(twice(row) if convolves else row) * jnp.sum(params["w"])

    task = TASK._replace(loss=loss)
    assert side_by_side.convolves(task) == convolves
    assert side_by_side.num_lanes(task, 3, tuned=True) == (1 if convolves else tuning.MIN_LANES)


def test_an_accelerator_takes_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert side_by_side.num_lanes(TASK, 3, tuned=True) == side_by_side.MOST_LANES
    assert side_by_side.num_lanes(TASK, 3, tuned=False) == 3
    parameters = num_parameters(TASK)
    monkeypatch.setattr(side_by_side, "MOST_ON_ACCELERATOR", 7 * parameters)
    assert side_by_side.num_lanes(TASK, 3, tuned=True) == 7
    monkeypatch.setattr(side_by_side, "MOST_ON_ACCELERATOR", parameters - 1)
    assert side_by_side.num_lanes(TASK, 3, tuned=False) == 1


@pytest.mark.optax_promotion
def test_results_are_those_of_lanes_side_by_side(monkeypatch, widths):
    judge = lambda: protocol.judge(
        TASK,
        {"mine": optax.sgd(0.1)},
        horizons=(3, 6),
        num_seeds=2,
        baselines=("momentum",),
        learning_rates=(1e-4, 0.1),
    )
    together = judge()
    assert widths == [2, 5]
    monkeypatch.setattr(side_by_side, "MOST_PARAMETERS", 9)
    alone = judge()
    assert widths[2:] == [1, 1]
    for steps in (3, 6):
        for one, other in zip(alone[steps].contenders, together[steps].contenders, strict=True):
            np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
            np.testing.assert_allclose(one.held_out["loss"], other.held_out["loss"], rtol=1e-4)
        (one,), (other,) = alone[steps].baselines, together[steps].baselines
        assert one.optimizer == other.optimizer == "SGD, momentum .9 0.1 (tuned)"
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        assert one.losses[0, 0] != one.losses[1, 0]


@pytest.mark.optax_promotion
def test_tuning_that_was_stopped_goes_on_after_the_last_run(monkeypatch, tmp_path):
    """Every run of a large model is kept, and found again only for its rate and seed."""
    monkeypatch.setattr(side_by_side, "MOST_PARAMETERS", 9)
    made, build = [], lanes.build

    def count(*args, **rest):
        program = build(*args, **rest)

        def train(hyperparameters, start, *more):
            if len(made) == stop_after:
                raise KeyboardInterrupt
            made.append(float(np.asarray(hyperparameters)[0]))
            return program.train(hyperparameters, start, *more)

        return program._replace(train=train)

    monkeypatch.setattr(lanes, "build", count)
    judge = lambda: protocol.judge(
        TASK,
        {},
        horizons=(4,),
        num_seeds=1,
        baselines=("momentum",),
        learning_rates=(1e-4, 1e-3, 0.1),
        tuning_seeds=2,
        cache=tmp_path,
    )
    stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        judge()
    assert made == pytest.approx([1e-4, 1e-4, 1e-3, 1e-3])
    stop_after = None
    resumed = judge()[4].baselines[0]
    assert made[4:] == pytest.approx([0.1, 0.1, 0.1])  # two seeds to tune, one to report
    assert resumed.optimizer == "SGD, momentum .9 0.1 (tuned)"
    judge()
    assert len(made) == 7


def test_one_tuning_seed_is_one_round(monkeypatch):
    monkeypatch.setattr(side_by_side, "MOST_PARAMETERS", 9)
    seen, choose = [], tuning.choose

    def spy(program, candidates, **rest):
        def train(hyperparameters, *more):
            seen.append(float(np.asarray(hyperparameters)[0]))
            return program.train(hyperparameters, *more)

        return choose(program._replace(train=train), candidates, **rest)

    monkeypatch.setattr(tuning, "choose", spy)
    rates = (1e-3, 1e-2, 0.1)
    protocol.judge(TASK, {}, horizons=(2,), num_seeds=1, baselines=("momentum",), learning_rates=rates, tuning_seeds=1)
    assert seen == pytest.approx(rates)
    with pytest.raises(ValueError, match="tuning_seeds must be at least 1, got 0"):
        protocol.judge(TASK, {}, horizons=(2,), num_seeds=1, tuning_seeds=0)
