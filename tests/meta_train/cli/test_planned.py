"""The size of a comparison without --minutes; the tests of `compare` have it with them."""

from meta_train.cli import planned
from meta_train.evaluation import protocol
from meta_train.evaluation import tuning


def test_what_is_not_given_has_its_default():
    plan = planned.plan(None, [], {}, (), horizons=(), default_steps=300, num_seeds=None)
    assert plan == ((300,), 5, tuning.LEARNING_RATES, protocol.PACEMAKERS, tuning.NUM_SEEDS)


def test_large_tasks_have_fewer_runs():
    plan = planned.plan(None, [], {}, (), horizons=(1000, 4000), default_steps=300, num_seeds=None, large=True)
    assert plan.horizons == (1000, 4000) and plan.pacemakers == ()
    assert (plan.num_seeds, plan.tuning_seeds) == (3, 1)
    assert (len(plan.learning_rates), plan.learning_rates[0], plan.learning_rates[-1]) == (10, 1e-4, 0.1)
    assert set(plan.learning_rates) < set(tuning.LEARNING_RATES)


def test_what_is_given_is_taken():
    plan = planned.plan(None, [], {}, (), horizons=(20, 10, 20), default_steps=300, num_seeds=2)
    assert (plan.horizons, plan.num_seeds) == ((10, 20), 2)
