"""Meta-trains learned optimizers."""

import importlib
import sys
from typing import TYPE_CHECKING

from meta_train.host import extra
from meta_train.host import renamed

try:
    from meta_train import continual as continual
    from meta_train import data as data
    from meta_train import estimators as estimators
    from meta_train import few_shot as few_shot
    from meta_train import problems as problems
    from meta_train import tasks as tasks
    from meta_train.estimators import Estimator as Estimator
    from meta_train.host.cores import use_all_cores as use_all_cores
    from meta_train.outer import safeguards as safeguards
    from meta_train.outer import search as search
    from meta_train.outer import self_training as self_training
    from meta_train.outer.search import SearchStrategy as SearchStrategy
    from meta_train.problems import objectives as objectives
    from meta_train.tasks import Task as Task
    from meta_train.training.fit import FitResult as FitResult
    from meta_train.training.fit import fit as fit
    from meta_train.unroll import truncation as truncation
    from meta_train.unroll.problem import Bilevel as Bilevel
    from meta_train.unroll.problem import Problem as Problem
except ModuleNotFoundError as error:
    # The command line starts all the same, and so do imports: to say what to install.
    _say_what_to_install = extra.stand_in(error)
else:
    _say_what_to_install = None

__all__ = [
    "Adapted",
    "Bilevel",
    "Estimator",
    "FitResult",
    "Problem",
    "SearchStrategy",
    "Task",
    "Tuned",
    "adapt",
    "continual",
    "data",
    "estimators",
    "few_shot",
    "fit",
    "objectives",
    "problems",
    "safeguards",
    "search",
    "self_training",
    "tasks",
    "truncation",
    "tune",
    "use_all_cores",
]

# Modules that the documentation named before they moved into rooms.
_MOVED = {
    "baselines": "evaluation.baselines",
    "distributed": "host.distributed",
    "engine": "training.engine",
    "evaluate": "evaluation.evaluate",
    "problem": "unroll.problem",
    "protocol": "evaluation.protocol",
    "scores": "evaluation.scores",
    "train": "training.fit",
    "verdict": "evaluation.verdict",
}
sys.meta_path.append(
    renamed.MovedModules({f"meta_train.{old}": f"meta_train.{new}" for old, new in _MOVED.items()})
)  # for `from meta_train.engine import build`

# Loaded when they are asked for, with the evaluation that they need.
_ON_DEMAND = {
    "Adapted": "adaptation.adapt",
    "Tuned": "tuning.tune",
    "adapt": "adaptation.adapt",
    "tune": "tuning.tune",
}
if TYPE_CHECKING:
    from meta_train.adaptation.adapt import Adapted as Adapted
    from meta_train.adaptation.adapt import adapt as adapt
    from meta_train.tuning.tune import Tuned as Tuned
    from meta_train.tuning.tune import tune as tune

if not TYPE_CHECKING:  # a type checker takes a module with __getattr__ to have any name, and would miss wrong ones

    def __getattr__(name: str):
        """Resolves names that load on demand, and former module names, these with a warning.

        Without the extra `meta` it says what to install.
        """
        if name in _MOVED:
            return renamed.import_moved(f"meta_train.{name}", f"meta_train.{_MOVED[name]}", stacklevel=2)
        if _say_what_to_install is not None:
            return _say_what_to_install(name)
        if name in _ON_DEMAND:
            return getattr(importlib.import_module(f"meta_train.{_ON_DEMAND[name]}"), name)
        raise AttributeError(f"module 'meta_train' has no attribute {name!r}")
