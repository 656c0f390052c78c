"""The verdict's figures, from curves that are known."""

import numpy as np

from meta_train.adaptation import verdict
from meta_train.adaptation.objective import HELD_OUT
from meta_train.adaptation.objective import TRAINING
from meta_train.evaluation.evaluate import Along
from meta_train.evaluation.evaluate import Result

_ONE_STEP = ((0.02, np.array([1.0, 1.1, 0.9])), (0.04, np.array([0.5, 0.55, 0.45])))


def curve(rate, *, spread=(1.0, 1.1, 0.9), steps=100):
    """Losses that fall exponentially, one seed above and one below, with the held-out loss twice as high."""
    losses = np.exp(-rate * np.arange(steps)) * np.array(spread)[:, None]
    marks = np.arange(5, steps + 1, 5)
    along = Along(marks, {"loss": 2.0 * losses[:, marks - 1].T})
    return Result(f"rate {rate}", losses, {"loss": 2.0 * losses[:, -1]}, along=along)


def test_twice_the_rate_is_twice_as_fast():
    results = [curve(0.02), curve(0.04), curve(0.01)]
    for objective, factor in ((TRAINING, 1.0), (HELD_OUT, 2.0)):
        found, steps = verdict.gain(results, {50: (9.0, 0.0), 75: (9.0, -10.0)}, 100, objective=objective, scale=1.0)
        assert found.sure and found.error < 1e-6
        np.testing.assert_allclose(found.change, -0.02 * 97, rtol=0.05)
        np.testing.assert_allclose(found.target, factor * np.exp(-0.02 * 97), rtol=0.06)
        assert steps[:2] == [found.default_steps, found.adapted_steps] and steps[2] == np.inf
        assert 1.6 < found.speedup_on_the_way < 2.1  # means over a tenth of the run lag behind
        assert 50 < found.adapted_told_steps < 75 and found.default_told_steps == 100
        assert found.speedup == 100 / found.adapted_told_steps


def test_a_change_within_the_noise_is_not_sure():
    found, _ = verdict.gain(
        [curve(0.02), curve(0.021, spread=(1.3, 0.8, 0.9))], {50: (9.0, 1.0)}, 100, objective=TRAINING, scale=1.0
    )
    assert found.change < 0.0 and not found.sure
    worse, steps = verdict.gain([curve(0.02), curve(0.01)], {50: (9.0, 1.0)}, 100, objective=TRAINING, scale=1.0)
    assert (
        not worse.sure
        and worse.speedup == 0.0
        and worse.adapted_told_steps == np.inf
        and worse.speedup == 0.0
        and steps[1] == np.inf
    )


def test_a_training_of_a_single_step_has_no_curve_of_held_out_losses():
    results = [curve(rate, steps=1)._replace(along=None, held_out={"loss": loss}) for rate, loss in _ONE_STEP]
    found, steps = verdict.gain(results, {}, 1, objective=HELD_OUT, scale=1.0)
    assert found.sure and steps == [1.0, 1.0] and found.adapted_told_steps == 1.0
