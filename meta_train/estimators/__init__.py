"""Meta-gradient estimators, one a file: each builds an `Estimator` from a `Problem`."""

from meta_train.estimators import linear_solvers
from meta_train.estimators.adjoint import adjoint
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info
from meta_train.estimators.evograd import evograd
from meta_train.estimators.implicit import implicit
from meta_train.estimators.pes import pes
from meta_train.estimators.reversible import reversible
from meta_train.estimators.truncated_backprop import truncated_backprop

__all__ = [
    "Estimator",
    "Info",
    "adjoint",
    "evograd",
    "implicit",
    "linear_solvers",
    "pes",
    "reversible",
    "truncated_backprop",
]
