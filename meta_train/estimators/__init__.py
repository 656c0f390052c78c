"""Meta-gradient estimators, one a file: each builds an `Estimator` from a `Problem`."""

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated_backprop import truncated_backprop

__all__ = ["Estimator", "Info", "pes", "truncated_backprop"]
