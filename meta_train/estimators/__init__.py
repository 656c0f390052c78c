"""Meta-gradient estimators, one a file: each builds an `Estimator` from a `Problem`."""

from meta_train.estimators import linear_solvers
from meta_train.estimators.adjoint import adjoint
from meta_train.estimators.antithetic import centered_ranks
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info
from meta_train.estimators.evograd import evograd
from meta_train.estimators.forward_gradient import forward_gradient
from meta_train.estimators.forward_mode import forward_mode
from meta_train.estimators.full_backprop import full_backprop
from meta_train.estimators.full_es import full_es
from meta_train.estimators.gpes import gpes
from meta_train.estimators.implicit import implicit
from meta_train.estimators.normalised import normalised
from meta_train.estimators.nres import nres
from meta_train.estimators.pes import pes
from meta_train.estimators.reversible import reversible
from meta_train.estimators.truncated_backprop import truncated_backprop
from meta_train.estimators.truncated_es import truncated_es
from meta_train.estimators.watched import watched

__all__ = [
    "Estimator",
    "Info",
    "adjoint",
    "centered_ranks",
    "evograd",
    "forward_gradient",
    "forward_mode",
    "full_backprop",
    "full_es",
    "gpes",
    "implicit",
    "linear_solvers",
    "normalised",
    "nres",
    "pes",
    "reversible",
    "truncated_backprop",
    "truncated_es",
    "watched",
]
