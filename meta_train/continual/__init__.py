"""Tasks one after another, and what keeps a network from forgetting the earlier ones."""

from meta_train.continual.consolidation import Consolidation as Consolidation
from meta_train.continual.consolidation import consolidate as consolidate
from meta_train.continual.consolidation import nothing_consolidated as nothing_consolidated
from meta_train.continual.consolidation import penalty as penalty
from meta_train.continual.fisher import ApplyFn as ApplyFn
from meta_train.continual.fisher import diagonal_fisher as diagonal_fisher
from meta_train.continual.in_turn import ImportanceFn as ImportanceFn
from meta_train.continual.in_turn import even_importance as even_importance
from meta_train.continual.in_turn import fisher_importance as fisher_importance
from meta_train.continual.in_turn import train_in_turn as train_in_turn
from meta_train.continual.permuted import permutations as permutations

__all__ = [
    "ApplyFn",
    "Consolidation",
    "ImportanceFn",
    "consolidate",
    "diagonal_fisher",
    "even_importance",
    "fisher_importance",
    "nothing_consolidated",
    "penalty",
    "permutations",
    "train_in_turn",
]
