"""Few-shot methods, one a file: each builds a `Learner` for episodes and a network."""

from meta_train.recipes.few_shot import comln as comln
from meta_train.recipes.few_shot.base import AdaptFn as AdaptFn
from meta_train.recipes.few_shot.base import Learner as Learner
from meta_train.recipes.few_shot.base import LearnerFn as LearnerFn

METHODS: dict[str, LearnerFn] = {
    "comln": comln.learner,
}

__all__ = ["METHODS", "AdaptFn", "Learner", "LearnerFn", "comln"]
