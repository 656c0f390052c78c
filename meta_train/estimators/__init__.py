"""Meta-gradient estimators, one a file: each builds an `Estimator` from a `Problem`."""

from typing import TYPE_CHECKING

from meta_train.estimators import aruba_rates as aruba_rates
from meta_train.estimators import linear_solvers as linear_solvers
from meta_train.estimators.adjoint import adjoint as adjoint
from meta_train.estimators.antithetic import Shaping as Shaping
from meta_train.estimators.antithetic import centered_ranks as centered_ranks
from meta_train.estimators.aruba import aruba as aruba
from meta_train.estimators.base import EstimateFn as EstimateFn
from meta_train.estimators.base import Estimator as Estimator
from meta_train.estimators.base import EstimatorInitFn as EstimatorInitFn
from meta_train.estimators.base import Info as Info
from meta_train.estimators.base import PerturbationFn as PerturbationFn
from meta_train.estimators.base import check_particles as check_particles
from meta_train.estimators.base import check_std as check_std
from meta_train.estimators.base import mean_over_particles as mean_over_particles
from meta_train.estimators.darts import darts as darts
from meta_train.estimators.episode_losses import episode_losses as episode_losses
from meta_train.estimators.evograd import evograd as evograd
from meta_train.estimators.forward_gradient import forward_gradient as forward_gradient
from meta_train.estimators.forward_mode import forward_mode as forward_mode
from meta_train.estimators.full_backprop import full_backprop as full_backprop
from meta_train.estimators.full_es import full_es as full_es
from meta_train.estimators.gpes import gpes as gpes
from meta_train.estimators.guided_es import guided_es as guided_es
from meta_train.estimators.implicit import implicit as implicit
from meta_train.estimators.inverse_variance import inverse_variance as inverse_variance
from meta_train.estimators.k_rmd import k_rmd as k_rmd
from meta_train.estimators.normalized import normalized as normalized
from meta_train.estimators.nres import nres as nres
from meta_train.estimators.pes import pes as pes
from meta_train.estimators.reptile import reptile as reptile
from meta_train.estimators.restarts import restarts as restarts
from meta_train.estimators.reversible import reversible as reversible
from meta_train.estimators.truncated_backprop import truncated_backprop as truncated_backprop
from meta_train.estimators.truncated_es import truncated_es as truncated_es
from meta_train.estimators.warp_grad import warp_grad as warp_grad
from meta_train.estimators.watched import watched as watched
from meta_train.estimators.weighted_sum import weighted_sum as weighted_sum
from meta_train.host.renamed import renamed as _renamed
from meta_train.unroll.perturbations import perturbation as perturbation

__all__ = [
    "EstimateFn",
    "Estimator",
    "EstimatorInitFn",
    "Info",
    "PerturbationFn",
    "Shaping",
    "adjoint",
    "aruba",
    "aruba_rates",
    "centered_ranks",
    "check_particles",
    "check_std",
    "darts",
    "episode_losses",
    "evograd",
    "forward_gradient",
    "forward_mode",
    "full_backprop",
    "full_es",
    "gpes",
    "guided_es",
    "implicit",
    "inverse_variance",
    "k_rmd",
    "linear_solvers",
    "mean_over_particles",
    "normalized",
    "nres",
    "perturbation",
    "pes",
    "reptile",
    "restarts",
    "reversible",
    "truncated_backprop",
    "truncated_es",
    "warp_grad",
    "watched",
    "weighted_sum",
]

if not TYPE_CHECKING:  # a checker reports the old names
    __getattr__ = _renamed(__name__, {"normalised": "normalized"})
