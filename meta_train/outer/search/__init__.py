"""Gradient-free searches, one a file. Over theta: each builds a `SearchStrategy`, which `fit` drives.

Over settings of any kind, by trials with budgets (`hyperband`, `dehb`): each builds a `FidelitySearch`, which
`minimize` drives.

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
from meta_train.outer.search.dehb import dehb as dehb
from meta_train.outer.search.elite_es import elite_es as elite_es
from meta_train.outer.search.fidelity import CompletedFn as CompletedFn
from meta_train.outer.search.fidelity import EvaluateFn as EvaluateFn
from meta_train.outer.search.fidelity import FidelityAskFn as FidelityAskFn
from meta_train.outer.search.fidelity import FidelityBestFn as FidelityBestFn
from meta_train.outer.search.fidelity import FidelityInitFn as FidelityInitFn
from meta_train.outer.search.fidelity import FidelitySearch as FidelitySearch
from meta_train.outer.search.fidelity import FidelityTellFn as FidelityTellFn
from meta_train.outer.search.fidelity import Found as Found
from meta_train.outer.search.fidelity import SearchResult as SearchResult
from meta_train.outer.search.fidelity import Trial as Trial
from meta_train.outer.search.fidelity import minimize as minimize
from meta_train.outer.search.hyperband import hyperband as hyperband
from meta_train.outer.search.network_training import NetworkLossFn as NetworkLossFn
from meta_train.outer.search.network_training import Trainee as Trainee
from meta_train.outer.search.network_training import by_own_hyperparameters as by_own_hyperparameters
from meta_train.outer.search.network_training import network_training as network_training
from meta_train.outer.search.network_training import scale_hyperparameters as scale_hyperparameters
from meta_train.outer.search.pbt import pbt as pbt
from meta_train.outer.search.space import Dimension as Dimension
from meta_train.outer.search.space import choice as choice
from meta_train.outer.search.space import integer as integer
from meta_train.outer.search.space import real as real

__all__ = [
    "AskFn",
    "BestFn",
    "CombineFn",
    "CompletedFn",
    "Dimension",
    "EvaluateFn",
    "FidelityAskFn",
    "FidelityBestFn",
    "FidelityInitFn",
    "FidelitySearch",
    "FidelityTellFn",
    "Found",
    "NetworkLossFn",
    "OnHostFn",
    "SearchInitFn",
    "SearchResult",
    "SearchStrategy",
    "TellFn",
    "Trainee",
    "Trial",
    "by_own_hyperparameters",
    "choice",
    "cma_es",
    "dehb",
    "elite_es",
    "episodes",
    "hyperband",
    "integer",
    "mean_losses",
    "mean_ranks",
    "minimize",
    "network_training",
    "pbt",
    "real",
    "scale_hyperparameters",
]
