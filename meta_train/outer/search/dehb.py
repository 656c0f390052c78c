"""DEHB: differential evolution over the brackets of Hyperband.

Awad, Mallik, Hutter 2021, "DEHB: Evolutionary Hyperband for Scalable, Robust and Efficient Hyperparameter
Optimization", https://arxiv.org/abs/2105.09821

Each budget has a subpopulation, as large as the largest rung of that budget. The first iteration of Hyperband fills
them: the first rung is random, and the best of a rung go on to the next subpopulation. Afterwards a rung evolves the
subpopulation of its budget. The mutants come from the best of the budget below, the parent pool, so that information
goes from cheap budgets to dear ones; at the first rung of a bracket, from the subpopulation itself.

Deviations: an offspring replaces its target when the rung is complete, so that a rung can be evaluated at once; a
parent pool of fewer than three is filled up with members of all subpopulations, not with mutants of them; the answer is
the best at the largest budget, not over all budgets.
"""

from typing import NamedTuple

import numpy as np

from meta_train.outer.search.differential_evolution import offspring
from meta_train.outer.search.fidelity import FidelitySearch
from meta_train.outer.search.hyperband import Bracket
from meta_train.outer.search.hyperband import Incumbent
from meta_train.outer.search.hyperband import better
from meta_train.outer.search.hyperband import brackets
from meta_train.outer.search.hyperband import checked_losses
from meta_train.outer.search.hyperband import found
from meta_train.outer.search.hyperband import rungs
from meta_train.outer.search.hyperband import trials_of
from meta_train.outer.search.space import Space
from meta_train.outer.search.space import check_space


class Subpopulation(NamedTuple):
    """The candidates of a budget."""

    vectors: np.ndarray  # float64[members, dimensions]
    losses: np.ndarray  # float64[members], infinite before they are told
    numbers: np.ndarray  # int64[members], -1 for one that was never asked for
    turn: int  # the next member to be a target


class Asked(NamedTuple):
    """The generation that the search asks for."""

    vectors: np.ndarray  # float64[trials, dimensions]
    numbers: np.ndarray  # int64[trials]
    targets: np.ndarray  # int64[trials], the member of the budget's subpopulation that each competes with


class DEHBState(NamedTuple):
    """State of the search."""

    seed: int
    bracket: int  # brackets completed
    rung: int  # of the bracket at work
    populations: tuple[Subpopulation, ...]  # by budget, the smallest first
    asked: Asked
    next_number: int  # of the next new candidate
    best: Incumbent


def dehb(
    space: Space,
    *,
    min_budget: int,
    max_budget: int,
    eta: int = 3,
    factor: float = 0.5,
    probability: float = 0.5,
) -> FidelitySearch:
    """Builds the search by differential evolution over Hyperband's brackets.

    Args:
      space: the settings' dimensions by name; see `real`, `integer` and `choice`.
      min_budget: the smallest budget that tells good candidates from bad ones, in units of which one cannot be split,
        such as training steps.
      max_budget: the budget of the last rung.
      eta: one of so many candidates goes on to a budget so many times as large.
      factor: F, by which the difference of two parents is multiplied.
      probability: CR, that a number comes from the mutant.

    Returns:
      A `FidelitySearch`, for `minimize`. The first iteration, of as many brackets as there are rungs, is nearly
      Hyperband; later ones gain by what it learned.

    Raises:
      TypeError: if a budget or eta is no integer, or the space holds something else than dimensions.
      ValueError: if an argument is out of range, or the budgets make a single rung of fewer than three candidates.

    Example:
      >>> from meta_train.outer import search
      >>> space = {"x": search.real(-1.0, 1.0), "n": search.integer(1, 9), "kind": search.choice("a", "b")}
      >>> def loss(config, budget):
      ...     return config["x"] ** 2 + abs(config["n"] - 4) + (config["kind"] == "a") + 1 / budget
      >>> result = search.minimize(dehb(space, min_budget=1, max_budget=9), loss, num_brackets=12)
      >>> abs(result.best.config["x"]) < 0.2, result.best.config["n"], result.best.config["kind"]
      (True, 4, 'b')

    References:
      Awad et al. 2021, https://arxiv.org/abs/2105.09821
    """
    check_space(space)
    if not factor > 0:
        raise ValueError(f"factor must be positive, got {factor}.")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}.")
    budgets = rungs(min_budget, max_budget, eta=eta)
    made = brackets(budgets, eta=eta)
    sizes = [max(b.sizes[b.budgets.index(budget)] for b in made if budget in b.budgets) for budget in budgets]
    if sum(sizes) < 3:
        raise ValueError(f"dehb needs budgets that make two rungs or more, got {min_budget} to {max_budget}.")
    plan = _Plan(made, factor, probability)

    def init(seed):
        random = np.random.default_rng((seed,))
        populations = tuple(
            Subpopulation(random.random((size, len(space))), np.full(size, np.inf), np.full(size, -1), 0)
            for size in sizes
        )
        nothing = Asked(np.zeros((0, len(space))), np.zeros(0, np.int64), np.zeros(0, np.int64))
        best = Incumbent(np.zeros(len(space)), np.inf, 0)
        return _propose(plan, DEHBState(seed, 0, 0, populations, nothing, 0, best))

    def ask(state):
        budget = plan.bracket(state).budgets[state.rung]
        return trials_of(space, state.asked.vectors, state.asked.numbers, budget)

    def tell(state, losses):
        return _propose(plan, _told(plan, state, checked_losses(losses, len(state.asked.vectors))))

    settings = {
        "search": "dehb",
        "budgets": [int(min_budget), int(max_budget)],
        "eta": eta,
        "factor": factor,
        "probability": probability,
        "space": {name: each.description for name, each in space.items()},
    }
    return FidelitySearch(
        init, ask, tell, lambda state: found(space, state.best), lambda state: state.bracket, settings
    )


class _Plan(NamedTuple):
    """What stays the same in a search."""

    brackets: tuple[Bracket, ...]
    factor: float
    probability: float

    def bracket(self, state):
        """The bracket at work."""
        return self.brackets[state.bracket % len(self.brackets)]

    def place(self, state):
        """The number of the subpopulation at work."""
        return len(self.brackets[0].budgets) - len(self.bracket(state).budgets) + state.rung


def _propose(plan, state):
    """The state with the generation for its bracket and rung."""
    count, place = plan.bracket(state).sizes[state.rung], plan.place(state)
    own = state.populations[place]
    targets = (own.turn + np.arange(count)) % len(own.vectors)
    random = np.random.default_rng((state.seed, state.bracket, state.rung))
    numbers = state.next_number + np.arange(count)
    if state.bracket == 0 and state.rung == 0:
        vectors = own.vectors[targets]
    elif state.bracket < len(plan.brackets) and state.rung > 0:
        vectors, numbers = _promoted(state.populations[place - 1], own, count)
    else:
        pool = _pool(random, state.populations, place - (state.rung > 0), count)
        settings = {"factor": plan.factor, "probability": plan.probability}
        vectors = np.stack([offspring(random, own.vectors[target], pool, **settings) for target in targets])
    turn = int(targets[-1] + 1) % len(own.vectors)
    return state._replace(
        populations=_replaced(state.populations, place, own._replace(turn=turn)),
        asked=Asked(vectors, numbers, targets),
        next_number=max(state.next_number, int(numbers.max()) + 1),
    )


def _told(plan, state, losses):
    """The state at the next rung, or at the next bracket."""
    bracket, place, asked = plan.bracket(state), plan.place(state), state.asked
    last = state.rung + 1 == len(bracket.sizes)
    return state._replace(
        bracket=state.bracket + last,
        rung=0 if last else state.rung + 1,
        populations=_replaced(state.populations, place, _selected(state.populations[place], asked, losses)),
        best=better(state.best, asked.vectors, losses, bracket.budgets[state.rung]),
    )


def _replaced(populations, place, population):
    return (*populations[:place], population, *populations[place + 1 :])


def _selected(population, asked, losses):
    """The subpopulation after its targets met their rivals; of equals the new one stays."""
    wins = losses <= population.losses[asked.targets]
    targets = asked.targets[wins]
    vectors, kept, numbers = (array.copy() for array in population[:3])
    vectors[targets], kept[targets], numbers[targets] = asked.vectors[wins], losses[wins], asked.numbers[wins]
    return population._replace(vectors=vectors, losses=kept, numbers=numbers)


def _promoted(below, own, count):
    """The best of the budget below that are not in the subpopulation yet; where these are too few, others of the best.

    Returns float64[count, dimensions] and their numbers.
    """
    order = np.argsort(below.losses, kind="stable")
    order = order[below.numbers[order] >= 0]
    fresh = ~np.isin(below.numbers[order], own.numbers)
    chosen = np.concatenate([order[fresh], order[~fresh]])[:count]
    chosen = np.resize(chosen, count)
    return below.vectors[chosen], below.numbers[chosen]


def _pool(random, populations, place, count):
    """The parents: the best of the subpopulation at a place, and others where these are fewer than three."""
    source = populations[place]
    pool = source.vectors[np.argsort(source.losses, kind="stable")[:count]]
    if len(pool) >= 3:
        return pool
    everyone = np.concatenate([population.vectors for population in populations])
    fill = random.choice(len(everyone), 3 - len(pool), replace=False)
    return np.concatenate([pool, everyone[fill]])
