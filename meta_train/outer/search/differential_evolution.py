"""The operators of differential evolution: rand/1 mutation, binomial crossover, and what is done outside of the range.

Storn, Price 1997, "Differential Evolution – A Simple and Efficient Heuristic for Global Optimization over Continuous
Spaces", https://doi.org/10.1023/A:1008202821328
"""

import numpy as np


def mutate(parents: np.ndarray, *, factor: float) -> np.ndarray:
    r"""The rand/1 mutant :math:`a + F (b - c)` of three parents.

    Args:
      parents: float64[3, dimensions]: a, b and c.
      factor: F.

    Example:
      >>> mutate(np.array([[0.5, 0.5], [0.75, 0.0], [0.25, 1.0]]), factor=0.5).tolist()
      [0.75, 0.0]
    """
    first, second, third = parents
    return first + factor * (second - third)


def crossover(
    target: np.ndarray, mutant: np.ndarray, draws: np.ndarray, forced: int, *, probability: float
) -> np.ndarray:
    """Binomial crossover: the mutant's number where the draw falls below the probability, and at one place in any case.

    Args:
      target: float64[dimensions], the other parent.
      mutant: float64[dimensions].
      draws: float64[dimensions], even from 0 to 1.
      forced: the place where the mutant's number is taken in any case.
      probability: CR.

    Example:
      >>> crossover(np.zeros(3), np.ones(3), np.array([0.4, 0.9, 0.9]), 2, probability=0.5).tolist()
      [1.0, 0.0, 1.0]
    """
    return np.where((draws < probability) | (np.arange(len(target)) == forced), mutant, target)


def offspring(
    random: np.random.Generator, target: np.ndarray, pool: np.ndarray, *, factor: float, probability: float
) -> np.ndarray:
    """An offspring of a target and of three distinct members of a pool, by rand/1/bin.

    Numbers outside of 0 … 1 are drawn anew, evenly.

    Args:
      random: source of random numbers.
      target: float64[dimensions].
      pool: float64[members, dimensions], at least three.
      factor: F, of the mutation.
      probability: CR, of the crossover.
    """
    mutant = mutate(pool[random.choice(len(pool), 3, replace=False)], factor=factor)
    draws, forced, anew = random.random(len(target)), int(random.integers(len(target))), random.random(len(target))
    made = crossover(target, mutant, draws, forced, probability=probability)
    return np.where((made < 0) | (made > 1), anew, made)
