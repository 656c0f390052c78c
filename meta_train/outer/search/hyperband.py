"""Hyperband: many candidates get a small budget, and the best of them a larger one.

Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
https://arxiv.org/abs/1603.06560

Deviations: a bracket begins with ⌊(s_max + 1) / (s + 1)⌋ eta^s candidates, as in DEHB (https://arxiv.org/abs/2105.09821),
so that all its rungs divide evenly; the paper rounds (s_max + 1) eta^s / (s + 1) up. Budgets are whole numbers.
"""

from typing import NamedTuple

import numpy as np

from meta_train.outer.search.fidelity import FidelitySearch
from meta_train.outer.search.fidelity import Found
from meta_train.outer.search.fidelity import Trial
from meta_train.outer.search.space import Space
from meta_train.outer.search.space import check_space
from meta_train.outer.search.space import decode


class Bracket(NamedTuple):
    """Successive halving: at each rung the best go on."""

    sizes: tuple[int, ...]  # candidates at each rung
    budgets: tuple[int, ...]  # of each rung


class Incumbent(NamedTuple):
    """The best candidate so far."""

    vector: np.ndarray  # float64[dimensions]
    loss: float  # infinite before there is one
    budget: int


class HyperbandState(NamedTuple):
    """State of the search."""

    seed: int
    bracket: int  # brackets completed
    rung: int  # of the bracket at work
    vectors: np.ndarray  # float64[candidates, dimensions], those at this rung
    numbers: np.ndarray  # int64[candidates], theirs
    next_number: int  # of the next new candidate
    best: Incumbent


def rungs(min_budget: int, max_budget: int, *, eta: int = 3) -> tuple[int, ...]:
    """The budgets of Hyperband, each the eta-th part of the next one, rounded down, from max_budget downwards.

    Their number is found by multiplication: a quotient of logarithms falls just below 5 for budgets of 1 to 243, and
    would lose a rung.

    Args:
      min_budget, max_budget: no budget lies outside of these.
      eta: the ratio.

    Raises:
      TypeError: if an argument is no integer.
      ValueError: if an argument is out of range.

    Example:
      >>> rungs(1, 243), rungs(10, 100)
      ((1, 3, 9, 27, 81, 243), (11, 33, 100))
    """
    for name, value in {"min_budget": min_budget, "max_budget": max_budget, "eta": eta}.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}: choose the budgets' unit accordingly.")
    if not 1 <= min_budget <= max_budget:
        raise ValueError(f"budgets must be at least 1 and in order, got {min_budget} to {max_budget}.")
    if eta < 2:
        raise ValueError(f"eta must be at least 2, got {eta}.")
    ratios = [1]
    while min_budget * ratios[-1] * eta <= max_budget:
        ratios.append(ratios[-1] * eta)
    return tuple(max_budget // ratio for ratio in reversed(ratios))


def brackets(budgets: tuple[int, ...], *, eta: int = 3) -> tuple[Bracket, ...]:
    """The brackets of an iteration, from many candidates at the smallest budget to few at the largest one.

    Args:
      budgets: of the rungs, as `rungs` gives them.
      eta: one of so many candidates goes on from rung to rung.

    Example:
      >>> for bracket in brackets(rungs(1, 27)):
      ...     print(bracket.sizes, bracket.budgets)
      (27, 9, 3, 1) (1, 3, 9, 27)
      (9, 3, 1) (3, 9, 27)
      (6, 2) (9, 27)
      (4,) (27,)
    """
    made = []
    for steps in range(len(budgets) - 1, -1, -1):  # rungs after the first one
        first = len(budgets) // (steps + 1) * eta**steps
        made.append(Bracket(tuple(first // eta**i for i in range(steps + 1)), budgets[-steps - 1 :]))
    return tuple(made)


def hyperband(space: Space, *, min_budget: int, max_budget: int, eta: int = 3) -> FidelitySearch:
    """Builds the search that draws candidates at random and stops most of them early.

    With equal budgets, `hyperband(space, min_budget=b, max_budget=b)`, it is random search.

    Args:
      space: the settings' dimensions by name; see `real`, `integer` and `choice`.
      min_budget: the smallest budget that tells good candidates from bad ones, in units of which one cannot be split,
        such as training steps.
      max_budget: the budget of the last rung.
      eta: one of so many candidates goes on to a budget so many times as large.

    Returns:
      A `FidelitySearch`, for `minimize`. After the last of its brackets it begins with the first again.

    Raises:
      TypeError: if a budget or eta is no integer, or the space holds something else than dimensions.
      ValueError: if an argument is out of range.

    Example:
      >>> from meta_train.outer import search
      >>> strategy = hyperband({"rate": search.real(1e-4, 1.0, log=True)}, min_budget=1, max_budget=3)
      >>> state = strategy.init(0)
      >>> [(trial.number, trial.budget) for trial in strategy.ask(state)]
      [(0, 1), (1, 1), (2, 1)]
      >>> state = strategy.tell(state, [0.3, 0.1, float("nan")])
      >>> [(trial.number, trial.budget) for trial in strategy.ask(state)]
      [(1, 3)]

    References:
      Li et al. 2018, https://arxiv.org/abs/1603.06560
    """
    check_space(space)
    made = brackets(rungs(min_budget, max_budget, eta=eta), eta=eta)

    def begin(seed, bracket, next_number, best):
        count = made[bracket % len(made)].sizes[0]
        vectors = np.random.default_rng((seed, bracket)).random((count, len(space)))
        numbers = next_number + np.arange(count)
        return HyperbandState(seed, bracket, 0, vectors, numbers, next_number + count, best)

    def ask(state):
        budget = made[state.bracket % len(made)].budgets[state.rung]
        return trials_of(space, state.vectors, state.numbers, budget)

    def tell(state, losses):
        losses = checked_losses(losses, len(state.vectors))
        bracket = made[state.bracket % len(made)]
        best = better(state.best, state.vectors, losses, bracket.budgets[state.rung])
        if state.rung + 1 == len(bracket.sizes):
            return begin(state.seed, state.bracket + 1, state.next_number, best)
        chosen = np.argsort(losses, kind="stable")[: bracket.sizes[state.rung + 1]]
        return state._replace(
            rung=state.rung + 1, vectors=state.vectors[chosen], numbers=state.numbers[chosen], best=best
        )

    settings = {
        "search": "hyperband",
        "budgets": [int(min_budget), int(max_budget)],
        "eta": eta,
        "space": {name: each.description for name, each in space.items()},
    }
    nothing = Incumbent(np.zeros(len(space)), np.inf, 0)
    return FidelitySearch(
        lambda seed: begin(seed, 0, 0, nothing),
        ask,
        tell,
        lambda state: found(space, state.best),
        lambda state: state.bracket,
        settings,
    )


def trials_of(space: Space, vectors: np.ndarray, numbers: np.ndarray, budget: int) -> tuple[Trial, ...]:
    """Trials of candidates float64[candidates, dimensions] with numbers int64[candidates]."""
    return tuple(Trial(int(n), decode(space, v), budget) for n, v in zip(numbers, vectors, strict=True))


def checked_losses(losses, count: int) -> np.ndarray:
    """The losses as float64[count], infinite where they are not finite.

    Raises:
      ValueError: if there are not as many as trials.
    """
    losses = np.asarray(losses, np.float64)
    if losses.shape != (count,):
        raise ValueError(f"tell needs a loss for each of the {count} trials that ask gave, got {losses.shape}.")
    return np.where(np.isfinite(losses), losses, np.inf)


def better(best: Incumbent, vectors: np.ndarray, losses: np.ndarray, budget: int) -> Incumbent:
    """The better one of the best so far and of candidates at a budget. A larger budget counts more than any loss."""
    first = int(np.argmin(losses))
    if np.isfinite(losses[first]) and (budget > best.budget or (budget == best.budget and losses[first] < best.loss)):
        return Incumbent(vectors[first], float(losses[first]), budget)
    return best


def found(space: Space, best: Incumbent) -> Found | None:
    """The answer, None before any trial had a finite loss."""
    return Found(decode(space, best.vector), best.loss, best.budget) if best.budget else None
