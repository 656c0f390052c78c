"""The size of a comparison without --minutes; the tests of `compare` have it with them."""

from meta_train.cli import planned
from meta_train.evaluation import protocol
from meta_train.evaluation import tuning


def test_what_is_not_given_has_its_default():
    plan = planned.plan(None, [], {}, (), horizons=(), default_steps=300, num_seeds=None)
    assert plan == ((300,), 5, tuning.LEARNING_RATES, protocol.PACEMAKERS)


def test_what_is_given_is_taken():
    plan = planned.plan(None, [], {}, (), horizons=(20, 10, 20), default_steps=300, num_seeds=2)
    assert (plan.horizons, plan.num_seeds) == ((10, 20), 2)
