"""Gradient-free searches over theta, one a file: each builds a `SearchStrategy`, which `fit` drives."""

from meta_train.outer.search.base import SearchStrategy
from meta_train.outer.search.cma_es import cma_es
from meta_train.outer.search.elite_es import elite_es
from meta_train.outer.search.episodes import episodes
from meta_train.outer.search.pbt import pbt

__all__ = ["SearchStrategy", "cma_es", "elite_es", "episodes", "pbt"]
