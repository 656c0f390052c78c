"""Gradient-free searches over theta, one a file: each builds a `SearchStrategy`, which `fit` drives.

`search.episodes` is another name for `estimators.episode_losses`, the estimator of losses that a search needs.
"""

from meta_train.estimators.episode_losses import episode_losses as episodes
from meta_train.outer.search.base import AskFn as AskFn
from meta_train.outer.search.base import BestFn as BestFn
from meta_train.outer.search.base import CombineFn as CombineFn
from meta_train.outer.search.base import OnHostFn as OnHostFn
from meta_train.outer.search.base import SearchInitFn as SearchInitFn
from meta_train.outer.search.base import SearchStrategy as SearchStrategy
from meta_train.outer.search.base import TellFn as TellFn
from meta_train.outer.search.base import mean_losses as mean_losses
from meta_train.outer.search.base import mean_ranks as mean_ranks
from meta_train.outer.search.cma_es import cma_es as cma_es
from meta_train.outer.search.elite_es import elite_es as elite_es
from meta_train.outer.search.pbt import pbt as pbt

__all__ = [
    "AskFn",
    "BestFn",
    "CombineFn",
    "OnHostFn",
    "SearchInitFn",
    "SearchStrategy",
    "TellFn",
    "cma_es",
    "elite_es",
    "episodes",
    "mean_losses",
    "mean_ranks",
    "pbt",
]
