"""`FidelitySearch`: searches that ask for a candidate's loss at a budget, such as few training steps or many.

A `SearchStrategy` is driven by `fit` and evaluates every candidate alike. Here each trial has a budget of its own, and
the settings searched may be of any kind, so these searches run on the host: by `minimize`, or by a loop of one's own
around `ask` and `tell`.
"""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np


class Trial(NamedTuple):
    """A loss that is asked for.

    Fields:
      number: of the candidate. The same number at a larger budget is the same candidate: its training may go on.
      config: its settings, by name.
      budget: the resources to spend on it, in the units of the search's budgets.
    """

    number: int
    config: dict[str, Any]
    budget: int


class Found(NamedTuple):
    """A search's answer.

    Fields:
      config: the candidate's settings, by name.
      loss: its loss.
      budget: the budget at which it had that loss.
    """

    config: dict[str, Any]
    loss: float
    budget: int


class FidelityInitFn(Protocol):
    """Begins a search."""

    def __call__(self, seed: int, /) -> Any:
        """Makes the first state.

        Args:
          seed: of everything random in the search, not negative.

        Returns:
          The state, a pytree of numbers and NumPy arrays.
        """
        ...


class FidelityAskFn(Protocol):
    """Asks for a generation of trials."""

    def __call__(self, state: Any, /) -> tuple[Trial, ...]:
        """Gives the trials, all of the same budget. The same state always gives the same ones."""
        ...


class FidelityTellFn(Protocol):
    """Tells a search how its trials did."""

    def __call__(self, state: Any, losses: Sequence[float] | np.ndarray, /) -> Any:
        """Updates the search.

        Args:
          state: the search's state.
          losses: of the trials that `ask` gives for that state, in their order; not finite for one that failed.

        Returns:
          The next state.
        """
        ...


class FidelityBestFn(Protocol):
    """Reads a search's answer."""

    def __call__(self, state: Any, /) -> Found | None:
        """Gives the trial of lowest loss at the largest budget that had a finite one; None before there is any."""
        ...


class CompletedFn(Protocol):
    """Reads how far a search is."""

    def __call__(self, state: Any, /) -> int:
        """Gives the number of brackets that are complete."""
        ...


class EvaluateFn(Protocol):
    """Evaluates a candidate."""

    def __call__(self, config: dict[str, Any], budget: int, /) -> float:
        """Returns the loss.

        Args:
          config: the settings, by name.
          budget: the resources to spend, such as training steps.
        """
        ...


class FidelitySearch(NamedTuple):
    """A search for settings of low loss that spends little on most candidates.

    Fields:
      init: `(seed) -> state`.
      ask: `(state) -> trials`, the next generation.
      tell: `(state, losses) -> state`.
      best: `(state) -> Found | None`.
      completed: `(state) -> int`, the number of brackets that are complete.
      settings: what the search depends on, as JSON values: a resumed one compares them.
    """

    init: FidelityInitFn
    ask: FidelityAskFn
    tell: FidelityTellFn
    best: FidelityBestFn
    completed: CompletedFn
    settings: dict[str, Any]


class SearchResult(NamedTuple):
    """What `minimize` returns.

    Fields:
      best: the answer, None if every trial failed.
      trials: all trials in their order, dicts with `number`, `budget`, `config`, `loss` (None where it is not finite).
    """

    best: Found | None
    trials: list[dict[str, Any]]


def minimize(
    search: FidelitySearch,
    evaluate: EvaluateFn,
    *,
    num_brackets: int,
    seed: int = 0,
    journal: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> SearchResult:
    """Runs a search.

    Args:
      search: such as `hyperband` or `dehb` builds.
      evaluate: `(config, budget) -> loss`. Whatever is random in it needs seeds of its own; give all candidates the
        same ones, so that differences come from the candidates.
      num_brackets: brackets to run. As many as the search has rungs make one iteration of Hyperband.
      seed: of everything random in the search.
      journal: file that gets a line of JSON for each trial; None keeps nothing.
      resume: whether to read the losses in the journal instead of evaluating these trials again. The result is that of
        a search that was not interrupted, bit for bit if `evaluate` gives the same losses again.

    Returns:
      A `SearchResult`.

    Raises:
      ValueError: if num_brackets or seed is out of range, the journal exists and resume is False, or it is that of
        another search.

    Example: the loss falls with the budget, and is lowest where x is 0.3.
      >>> from meta_train.outer import search
      >>> space = {"x": search.real(0.0, 1.0)}
      >>> strategy = search.hyperband(space, min_budget=1, max_budget=9)
      >>> result = minimize(strategy, lambda config, budget: (config["x"] - 0.3) ** 2 + 1 / budget, num_brackets=3)
      >>> abs(result.best.config["x"] - 0.3) < 0.1, result.best.budget, sum(t["budget"] for t in result.trials)
      (True, 9, 72)
    """
    if num_brackets < 1:
        raise ValueError(f"num_brackets must be at least 1, got {num_brackets}.")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}.")
    path = None if journal is None else pathlib.Path(journal)
    known = [] if path is None else _opened(path, {"seed": seed, **search.settings}, resume)
    trials: list[dict[str, Any]] = []
    state = search.init(seed)
    while search.completed(state) < num_brackets:
        losses = []
        for trial in search.ask(state):
            # As JSON has it: tuples are lists there. Floats keep every bit.
            asked = json.loads(json.dumps(trial._asdict(), default=str))
            if len(trials) < len(known):
                record = known[len(trials)]
                if {name: record.get(name) for name in asked} != asked:
                    raise ValueError(f"{path} has {record} where the search asks for {asked}: choose another file.")
            else:
                loss = float(evaluate(trial.config, trial.budget))
                record = {**asked, "loss": loss if np.isfinite(loss) else None}
                if path is not None:
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
            trials.append(record)
            losses.append(np.nan if record["loss"] is None else record["loss"])
        state = search.tell(state, losses)
    return SearchResult(search.best(state), trials)


def _opened(path, settings, resume):
    """The trials that a journal has. It is made if missing; half a line at its end, of a killed run, is removed."""
    header = json.dumps({"settings": settings})
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + "\n", encoding="utf-8")
        return []
    if not resume:
        raise ValueError(f"{path} holds a search already: give resume=True to go on with it, or choose another file.")
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    first, *lines = whole.split("\n")
    if first and json.loads(first) != json.loads(header):
        raise ValueError(f"{path} is the journal of another search: {first}, not {header}. Choose another file.")
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return [json.loads(line) for line in lines]
