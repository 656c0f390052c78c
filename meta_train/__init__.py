"""Meta-trains learned optimizers."""

from meta_train import extra

try:
    from meta_train import estimators
    from meta_train import objectives
    from meta_train import problems
    from meta_train import safeguards
    from meta_train import search
    from meta_train import self_training
    from meta_train import tasks
    from meta_train import truncation
    from meta_train.cores import use_all_cores
    from meta_train.estimators import Estimator
    from meta_train.problem import Bilevel
    from meta_train.problem import Problem
    from meta_train.search import SearchStrategy
    from meta_train.tasks import Task
    from meta_train.train import FitResult
    from meta_train.train import fit
except ModuleNotFoundError as error:
    # The command line starts all the same, and so do imports: to say what to install.
    __getattr__ = extra.stand_in(error)

__all__ = [
    "Bilevel",
    "Estimator",
    "FitResult",
    "Problem",
    "SearchStrategy",
    "Task",
    "estimators",
    "fit",
    "objectives",
    "problems",
    "safeguards",
    "search",
    "self_training",
    "tasks",
    "truncation",
    "use_all_cores",
]
