"""Few-shot methods, one a file but for MAML and its kin: each builds a `Learner` for episodes and a network."""

from meta_train.recipes.few_shot import adjoint as adjoint
from meta_train.recipes.few_shot import aruba as aruba
from meta_train.recipes.few_shot import comln as comln
from meta_train.recipes.few_shot import imaml as imaml
from meta_train.recipes.few_shot import maml as maml
from meta_train.recipes.few_shot import reptile as reptile
from meta_train.recipes.few_shot import warpgrad as warpgrad
from meta_train.recipes.few_shot.base import AdaptFn as AdaptFn
from meta_train.recipes.few_shot.base import Learner as Learner
from meta_train.recipes.few_shot.base import LearnerFn as LearnerFn
from meta_train.recipes.few_shot.theta_file import load_theta as load_theta
from meta_train.recipes.few_shot.theta_file import save_theta as save_theta

METHODS: dict[str, LearnerFn] = {
    "maml": maml.maml,
    "fomaml": maml.fomaml,
    "meta-sgd": maml.meta_sgd,
    "anil": maml.anil,
    "reptile": reptile.learner,
    "imaml": imaml.learner,
    "adjoint": adjoint.learner,
    "comln": comln.learner,
    "warpgrad": warpgrad.learner,
    "aruba": aruba.learner,
}

__all__ = [
    "METHODS",
    "AdaptFn",
    "Learner",
    "LearnerFn",
    "adjoint",
    "aruba",
    "comln",
    "imaml",
    "load_theta",
    "maml",
    "reptile",
    "save_theta",
    "warpgrad",
]
