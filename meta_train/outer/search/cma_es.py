"""CMA-ES, covariance matrix adaptation, by the package `cma`.

Hansen 2016, "The CMA Evolution Strategy: A Tutorial", https://arxiv.org/abs/1604.00772

The package keeps its state in a Python object. Here the state holds what determines that object: where the search
began, its seed, and all losses that it was told. The next candidates are a function of these, computed by telling the
package the losses again. The object of the last call is kept, so that a step costs one generation, and only a resumed
run replays the whole search.
"""

import importlib.util
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.host.counted import counted
from meta_train.outer.search.base import SearchStrategy


class CMAESState(NamedTuple):
    """All that determines the search, and what follows from it."""

    start: Any  # theta at the beginning
    seed: jax.Array  # uint32[]
    generation: jax.Array  # int32[], generations that were told
    told: jax.Array  # float32[max_generations, num_candidates], their losses, in rows; zero from generation on
    candidates: Any  # like theta with leading axis num_candidates, the generation to evaluate next
    mean: Any  # like theta, that of the distribution


def cma_es(*, num_candidates: int, std: float, max_generations: int = 1000, diagonal: bool = False) -> SearchStrategy:
    """Builds the search by CMA-ES.

    Args:
      num_candidates: candidates of a generation; the package's own choice for d numbers is 4 + 3 log d.
      std: standard deviation of the first generation, in units of theta: about a third of the range to search.
      max_generations: the most outer steps that the search can make; the state keeps the losses of that many.
      diagonal: whether the covariance stays diagonal. A full one needs memory quadratic in the size of theta.

    Returns:
      A `SearchStrategy` whose answer is the mean of the distribution. A candidate that diverged counts as worse than
      all others. In a run of several processes each makes the same search, on processors of the same kind.

    Raises:
      ValueError: if an argument is out of range, from `init` if theta is a single number, and from `on_host` after
        more than max_generations outer steps.
      ModuleNotFoundError: if cma is not installed.

    Example: the loss is the squared distance from (1, 2).
      >>> import jax, jax.numpy as jnp
      >>> strategy = cma_es(num_candidates=8, std=0.5)
      >>> state = strategy.on_host(strategy.init(jax.random.key(0), jnp.zeros(2)))
      >>> for generation in range(40):
      ...     candidates = strategy.ask(None, state)
      ...     losses = jnp.sum((candidates - jnp.array([1.0, 2.0])) ** 2, axis=1)
      ...     state = strategy.on_host(strategy.tell(None, state, candidates, losses, None))
      >>> [round(float(x), 2) for x in strategy.best(state)]
      [1.0, 2.0]

    References:
      Hansen 2016, https://arxiv.org/abs/1604.00772
    """
    if importlib.util.find_spec("cma") is None:
        raise ModuleNotFoundError("cma_es needs the package cma: pip install cma, or use elite_es.")
    if num_candidates < 3:
        raise ValueError(f"num_candidates must be at least 3, got {num_candidates}.")
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}.")
    if max_generations < 1:
        raise ValueError(f"max_generations must be at least 1, got {max_generations}.")
    replay = _replayer(num_candidates, std, diagonal)

    def init(key, theta):
        if sum(jnp.size(leaf) for leaf in jax.tree.leaves(theta)) < 2:
            raise ValueError("CMA-ES needs a theta of at least two numbers, got one: use elite_es.")
        told = jnp.zeros((max_generations, num_candidates), jnp.float32)
        candidates = jax.tree.map(lambda x: jnp.stack([x] * num_candidates), theta)
        seed, generation = jax.random.bits(key, (), jnp.uint32), jnp.zeros((), jnp.int32)
        return CMAESState(theta, seed, generation, told, candidates, theta)

    def tell(key, state, candidates, losses, gradients):
        del key, candidates, gradients
        told = jnp.asarray(state.told).at[state.generation].set(losses.astype(jnp.float32))
        return state._replace(generation=state.generation + 1, told=told)

    def on_host(state):
        start, unravel = _ravel(state.start)
        generation, told = int(state.generation), np.asarray(state.told)
        if generation > max_generations:
            raise ValueError(
                f"the search has made its {counted(max_generations, 'outer step')}: give cma_es more max_generations."
            )
        candidates, mean = replay(start, int(state.seed), told[:generation])
        return state._replace(candidates=unravel(candidates), mean=unravel(mean))

    return SearchStrategy(
        init, lambda key, state: state.candidates, tell, lambda state: state.mean, num_candidates, on_host
    )


def _ravel(theta):
    """Theta's numbers float64[size], and the function to thetas from arrays whose last axis has the size."""
    leaves, structure = jax.tree.flatten(theta)
    leaves = [np.asarray(leaf) for leaf in leaves]
    ends = np.cumsum([leaf.size for leaf in leaves])

    def unravel(numbers):
        parts = np.split(numbers, ends[:-1], axis=-1)
        shaped = (part.reshape((*part.shape[:-1], *x.shape)) for part, x in zip(parts, leaves, strict=True))
        return structure.unflatten([part.astype(x.dtype) for part, x in zip(shaped, leaves, strict=True)])

    return np.concatenate([leaf.ravel().astype(np.float64) for leaf in leaves]), unravel


class _Run(NamedTuple):
    """A search on the host."""

    start: np.ndarray
    seed: int
    strategy: Any  # the package's object
    told: list[np.ndarray]  # the losses of the generations so far
    asked: list[Any]  # the generation that it asks for now, alone in the list


def _replayer(num_candidates, std, diagonal):
    """Returns `(start, seed, told) -> (candidates, mean)`, which goes on with the run of the last call where it can."""
    runs = []

    def leads_to(run, start, seed, told):
        before = len(run.told)
        same_start = run.seed == seed and np.array_equal(run.start, start)
        return same_start and before <= len(told) and np.array_equal(run.told, told[:before], equal_nan=True)

    def replay(start, seed, told):
        if not runs or not leads_to(runs[0], start, seed, told):
            runs[:] = [_begin(start, seed, num_candidates, std, diagonal)]
        run = runs[0]
        for losses in told[len(run.told) :]:
            run.strategy.tell(run.asked[0], _finite(losses))
            run.told.append(losses.copy())
            run.asked[0] = run.strategy.ask()
        return np.asarray(run.asked[0]), np.asarray(run.strategy.mean)

    return replay


def _begin(start, seed, num_candidates, std, diagonal):
    import cma  # here, so that all else works without it

    options = {
        "popsize": num_candidates,
        "CMA_diagonal": diagonal,
        "randn": np.random.RandomState(seed).randn,
        "seed": np.nan,  # leaves NumPy's global generator alone
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy(start, std, options)
    return _Run(start, seed, strategy, [], [strategy.ask()])


def _finite(losses):
    """The losses as Python floats, with one above all others for a candidate that diverged."""
    finite = np.isfinite(losses)
    worst = losses[finite].max(initial=0.0) + 1.0
    return np.where(finite, losses, worst).astype(np.float64).tolist()
