"""What is design and what is learned, from results that are made up."""

import json

import numpy as np
import pytest

from meta_train.evaluation import prior
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement


def _result(name, final, rate=None):
    """Two seeds of ten steps; the last step is the tenth that counts."""
    losses = np.full((2, 10), 7.0)
    losses[:, -1] = final
    return Result(name, losses, {"loss": np.zeros(2)}, rate)


def _judged(trained, before, tuned, fixed=100.0, name="Adam 0.1 (tuned)"):
    mine = [_result("mine", trained), _result("mine, before training", before)]
    return Judgement(mine, [_result("Adam 1e-3", fixed), _result(name, tuned, 0.1)], {"adam": np.array([[2.0], [3.0]])})


def test_mean_log_ratios_of_means_over_seeds():
    found = prior.gain({"a": _judged([1.0, 3.0], 8.0, 4.0), "b": _judged(1.0, 1.0, 2.0)})
    assert (found.optimizer, found.prior, found.baseline) == ("mine", "mine, before training", "Adam (tuned)")
    np.testing.assert_allclose(found.log_ratio, (np.log(2 / 4) + np.log(1 / 2)) / 2)
    np.testing.assert_allclose(found.prior_log_ratio, (np.log(8 / 4) + np.log(1 / 2)) / 2, atol=1e-12)
    assert (found.tasks, found.left_out) == (("a", "b"), ())
    assert prior.as_text(found).splitlines() == [
        "Mean log ratio of the final training loss to that of Adam (tuned), over 2 tasks",
        "  mine                   -0.69",
        "  mine, before training  +0.00",
    ]


@pytest.mark.parametrize("bad", [(np.nan, 1.0, 1.0), (1.0, np.inf, 1.0), (1.0, 1.0, np.nan), (-1.0, 1.0, 1.0)])
def test_a_task_without_logarithms_is_left_out_for_all_three(bad):
    found = prior.gain({"a": _judged(1.0, 2.0, 4.0), "bad": _judged(*bad)})
    assert (found.tasks, found.left_out) == (("a",), ("bad",))
    np.testing.assert_allclose((found.log_ratio, found.prior_log_ratio), np.log((1 / 4, 2 / 4)))
    assert "  left out, as a loss is infinite or negative: bad" in prior.as_text(found)
    nothing = prior.gain({"bad": _judged(*bad)})
    assert np.isnan(nothing.log_ratio) and nothing.tasks == ()
    assert json.loads(json.dumps(prior.as_json(nothing), allow_nan=False))["log_ratio"] is None


def test_losses_of_zero_are_equal():
    found = prior.gain({"a": _judged(0.0, 0.0, 0.0)})
    assert (found.log_ratio, found.prior_log_ratio) == (0.0, 0.0)


def test_the_baseline_is_tuned_adam_then_another_tuned_one_then_the_first():
    judged = _judged(1.0, 2.0, 4.0, name="Lion 0.1 (tuned)")
    assert prior.gain({"a": judged}).baseline == "Lion (tuned)"
    adam = _result("Adam 0.1 (tuned)", 8.0, 0.1)
    found = prior.gain({"a": judged._replace(baselines=[*judged.baselines, adam])})
    assert found.baseline == "Adam (tuned)"
    np.testing.assert_allclose(found.log_ratio, np.log(1 / 8))
    untuned = prior.gain({"a": judged._replace(baselines=judged.baselines[:1])})
    assert untuned.baseline == "Adam 1e-3"
    assert "to that of Adam 1e-3, not tuned, over 1 task\n" in prior.as_text(untuned)


def test_one_contender_or_no_baseline():
    judged = _judged(1.0, 2.0, 4.0)
    with pytest.raises(ValueError, match=r"two contenders, an optimizer and its prior, .* got 1 and 2"):
        prior.gain(prior.without({"a": judged}))
    with pytest.raises(ValueError, match="got 2 and 0"):
        prior.gain({"a": judged._replace(baselines=[])})


def test_the_prior_is_no_rival():
    judged = prior.without({"a": _judged(1.0, 2.0, 4.0)})["a"]
    assert [result.optimizer for result in judged.contenders] == ["mine"]
    assert len(judged.baselines) == 2
    np.testing.assert_array_equal(judged.speedups["adam"], [[2.0]])
