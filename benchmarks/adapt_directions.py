"""Whole trainings or windows: which first direction for the constants of an optimizer is worth more on one model.

From the default on, each way spends as many steps as a sweep, 57 trainings, on a direction, and 12 or 14 trainings
more on how far to go:

- sweep: each constant is moved down and up, then combinations are tried, as `adapt` begins;
- es: antithetic differences of the final loss of whole trainings, whose candidates share seeds;
- pes, nres: the estimators of these names on windows of a tenth of a training, for the mean normalized training loss.

What counts is the change of the log of the final loss, the one that `adapt` lowers, on seeds that no way has seen.

    python benchmarks/adapt_directions.py [--only NAME …] [--steps 200] [--repeats 3] [--out FILE]
"""

import argparse
import pathlib
import runpy
import time
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from learned_optim import LearnedOptimizer
from meta_train import estimators
from meta_train import problems
from meta_train.adaptation import calibration
from meta_train.adaptation import constants
from meta_train.adaptation import objective
from meta_train.adaptation import search
from meta_train.adaptation import setup as setups
from meta_train.adaptation import trainings
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.plan import SIZES
from meta_train.adaptation.plan import Plan
from meta_train.evaluation.side_by_side import convolves
from meta_train.tasks import user_file
from meta_train.tasks.base import num_parameters
from meta_train.unroll import truncation

FOLDER = pathlib.Path(__file__).parent
NUMBER, PAIRS, WINDOWS, STD, SEEDS = len(constants.COORDINATES), 28, 10, 0.4, 8
LENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of a step, in moves
_STANDARD = runpy.run_path(str(FOLDER / "meta_training.py"))


def fresh_seeds():
    """A function of a number that gives so many seeds that it has not given before."""
    taken = [0]

    def take(count):
        taken[0] += count
        return range(taken[0] - count, taken[0])

    return take


def along(measure, direction, num_steps, seeds):
    """The best point along a direction."""
    points = np.outer(LENGTHS, direction / np.linalg.norm(direction))
    return points[int(measure(points, seeds(2), trainings.SEARCH, num_steps).mean(axis=1).argmin())]


def by_sweep(measure, num_steps, seeds, repeat):
    """The point with which CMA-ES would begin."""
    del repeat
    plan = Plan(num_steps, 100, 0.0, 0.0, SIZES[0])
    drawn: Any = lambda points, each, stream, steps: measure(points, seeds(len(each)), stream, steps)
    rounds = search._Rounds(drawn, Journal(None, {}, resume=False), plan)
    return search._combine(rounds, search._sweep(rounds, NUMBER, 1), NUMBER)[0]


def by_whole_trainings(measure, num_steps, seeds, repeat):
    """Antithetic evolution strategies on the final loss."""
    noise = np.random.default_rng(repeat).normal(size=(PAIRS, NUMBER))
    values = measure(STD * np.concatenate([noise, -noise]), seeds(1), trainings.SEARCH, num_steps)[:, 0]
    return along(measure, -(values[:PAIRS] - values[PAIRS:]) @ noise, num_steps, seeds)


def by_windows(setup, kind, num_steps):
    """A way as the others are, by an estimator on windows."""
    _, unravel = jax.flatten_util.ravel_pytree(setup.theta)
    moves, origin = (jnp.asarray(each, jnp.float32) for each in (setup.space.moves, setup.space.origin))
    transform: Any = lambda point, num_steps=None: setup.optimizer.transform(
        unravel(origin + point @ moves), num_steps=num_steps
    )
    problem = problems.optimizer_weights(LearnedOptimizer(lambda key: jnp.zeros(NUMBER), transform, {}), setup.task)
    std = STD / WINDOWS**0.5 if kind == "pes" else STD  # the perturbations of PES add up over the windows
    options = {"num_particles": PAIRS, "unroll_length": num_steps // WINDOWS, "std": std, "stagger": False}
    estimator = getattr(estimators, kind)(problem, horizon=truncation.constant(num_steps), **options)
    estimate = jax.jit(estimator.estimate)

    def way(measure, num_steps, seeds, repeat):
        key, gradients = jax.random.key(repeat), []
        state = estimator.init(jax.random.fold_in(key, WINDOWS), jnp.zeros(NUMBER))
        for window in range(WINDOWS):
            found = estimate(jax.random.fold_in(key, window), jnp.zeros(NUMBER), state, setup.search_data)
            state = found[1]
            gradients.append(np.asarray(found[0]))
        return along(measure, -np.mean(gradients, axis=0), num_steps, seeds)

    return way


def measure_model(name, num_steps, repeats):
    """Rows of the record: a way, a repeat."""
    task = user_file.from_file(FOLDER / "adapt_models" / f"{name}.py", num_batches=num_steps)
    setup = setups.set_up(task, num_steps, None, ())
    width = calibration.widths(num_parameters(task), jax.default_backend(), 1.0, convolving=convolves(task))[0]
    made = trainings.build(setup.task, setup.optimizer, setup.theta, width=width, size=num_steps, num_marks=1)
    measure = objective.measurer(made, setup.space, setup.objective, setup.search_data, setup.scale)
    ways = {"sweep": by_sweep, "es": by_whole_trainings}
    ways |= {kind: by_windows(setup, kind, num_steps) for kind in ("pes", "nres")}
    seeds = fresh_seeds()
    for repeat in range(repeats):
        points, seconds = [np.zeros(NUMBER)], []
        for way in ways.values():
            began = time.perf_counter()
            points.append(way(measure, num_steps, seeds, repeat))
            seconds.append(time.perf_counter() - began)  # of the first repeat, compilation included
        values = measure(np.stack(points), range(SEEDS * repeat, SEEDS * (repeat + 1)), trainings.CHOOSE, num_steps)
        for way, changes, taken in zip(ways, values[1:] - values[:1], seconds, strict=True):
            error = changes.std(ddof=1) / SEEDS**0.5
            print(f"{name}, {way}: {changes.mean():.3f} ± {error:.3f} in {taken:.0f} s", flush=True)
            yield {
                "model": name,
                "way": way,
                "repeat": repeat,
                "change": float(changes.mean()),
                "error": float(error),
                "seconds": taken,
            }


def main():
    """Measures each model and writes the record."""
    names = sorted(path.stem for path in (FOLDER / "adapt_models").glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/adapt_directions.json"))
    arguments = parser.parse_args()
    about, results = _STANDARD["about"](), []
    for name in arguments.only:
        results += measure_model(name, arguments.steps, arguments.repeats)
        _STANDARD["write"]({"steps": arguments.steps, **about, "results": results}, arguments.out)


if __name__ == "__main__":
    main()
