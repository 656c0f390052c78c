"""Meta-gradient estimators compared: bias, variance and cost of each at an equal budget of inner steps, theta fixed.

    python benchmarks/estimators.py [--out FILE] [--case NAME …] [--estimator NAME …] [--theta FILE] [--quick]

Cases: `influence-balancing` (Vicol et al. 2021), whose gradient is known; and training the digits MLP by a learned
optimizer, `initial` with `mlp((4,))` at its initial theta, `trained` at the released `mlp-digits-v1` or another file.

Each estimator makes independent samples of its gradient. A sample takes as many inner steps as `runs` runs of the
horizon: one outer step of whole episodes, or one horizon of windows, after another one in which step-unlocked workers
leave their first, shortened episodes. Figures are relative to the norm of the reference: the exact gradient for
influence balancing, for the others a long average of full ES, which is the gradient of the smoothed loss. Estimators
that differentiate estimate the gradient of the loss itself, so they may differ from the reference and still be right.
`guided_es` is meant to stretch the gradient along its guiding subspace: look at its cosine, not at its bias.

Writes JSON and a plot beside it; `--quick` is a smoke test at toy sizes, whose figures mean nothing.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

import learned_optim
import meta_train
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.host import progress
from meta_train.training import engine
from meta_train.unroll import truncation

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
CASES = ("influence-balancing", "initial", "trained")
# Runs of the horizon that a particle makes at a time.
RUNS_OF_A_PARTICLE = {
    "full_es": 2,
    "pes": 2,
    "gpes": 2,
    "nres": 2,
    "truncated_es": 3,
    "guided_es": 3,  # two of them by PES, one by truncated backpropagation
    "inverse_variance": 3,  # two by full ES, one by full backpropagation under perturbations of theta
    "full_backprop": 1,
    "truncated_backprop": 1,
    "forward_mode": 1,
    "forward_gradient": 1,
}
_WITHOUT_STD = ("full_backprop", "truncated_backprop", "forward_mode", "forward_gradient")
_WHOLE_EPISODES = ("full_es", "full_backprop", "forward_mode", "forward_gradient", "inverse_variance")


class Sizes(NamedTuple):
    """What a run of this script measures."""

    task: str = "digits-mlp"
    hidden_size: int = 4  # of the learned optimizer at its initial theta
    horizon: int = 100  # of the learned optimizers; influence balancing has 30
    window: int = 10  # there 5
    std: float = 0.01  # there 0.1
    runs: int = 24  # runs of the horizon in a sample, shared out among the particles
    samples: int = 50
    reference_samples: int = 600


QUICK = Sizes("quadratic", 2, 6, 3, 0.01, 6, 3, 4)


class Case(NamedTuple):
    """Where gradients are estimated."""

    problem: meta_train.Problem
    theta: Any
    horizon: int
    window: int
    std: float
    reference: str  # the estimator whose mean the others are compared to


def make_case(name: str, sizes: Sizes, path: pathlib.Path | None) -> Case:
    """The case of that name; path is where `trained` has its theta from, None for the released one."""
    if name == "influence-balancing":
        return Case(influence_balancing(), jnp.asarray(0.5), 30, 5, 0.1, "full_backprop")
    if name == "initial":
        optimizer = learned_optim.mlp((sizes.hidden_size,))
        theta = optimizer.init(jax.random.key(0))
    else:
        optimizer, theta = learned_optim.load_pretrained("mlp-digits-v1") if path is None else learned_optim.load(path)
    problem = problems.optimizer_weights(optimizer, tasks.get(sizes.task))
    return Case(problem, theta, sizes.horizon, sizes.window, sizes.std, "full_es")


def influence_balancing(size: int = 23, num_positive: int = 10) -> meta_train.Problem:
    """s' = A s + theta sigma with loss (s'_1 - 1)^2 / 2: short windows get the gradient's sign wrong."""
    matrix = jnp.asarray(0.5 * (np.eye(size) + np.eye(size, k=1)), jnp.float32)
    signs = jnp.where(jnp.arange(size) < num_positive, 1.0, -1.0)

    def step(key, theta, state, data):
        state = data[0] @ state + theta * data[1]
        return state, 0.5 * (state[0] - 1) ** 2

    return meta_train.Problem(lambda key, theta, num_steps: jnp.ones(size), step, (matrix, signs))


def make_estimator(name: str, case: Case, runs: int) -> meta_train.Estimator:
    """An estimator of about `runs` runs at a time. The noise of `gpes` lasts for half an episode."""
    arguments = {
        "num_particles": max(1, runs // RUNS_OF_A_PARTICLE[name]),
        "horizon": truncation.constant(case.horizon),
    }
    if name == "inverse_variance":
        return estimators.inverse_variance(
            [
                estimators.full_backprop(problems.smoothed(case.problem, case.std), **arguments),
                estimators.full_es(case.problem, std=case.std, **arguments),
            ]
        )
    if name not in _WITHOUT_STD:
        arguments["std"] = case.std
    if name not in _WHOLE_EPISODES:
        arguments["unroll_length"] = case.window
    if name == "gpes":
        arguments["noise_period"] = case.window * max(1, case.horizon // case.window // 2)
    return getattr(estimators, name)(case.problem, **arguments)


def make_sampler(estimator: meta_train.Estimator, theta: Any, outer_steps: int) -> Callable[[jax.Array], Any]:
    """A compiled function from keys[samples] to the gradients [samples, weights], each the mean of the last outer_steps
    outer steps of twice as many (of one, if outer_steps is 1), and the numbers of dropped particles."""

    def sample(key, theta, data):
        def outer_step(state, key):
            gradient, state, info = estimator.estimate(key, theta, state, data)
            return state, (jax.flatten_util.ravel_pytree(gradient)[0], info.dropped)

        init_key, key = jax.random.split(key)
        keys = jax.random.split(key, _made(outer_steps))
        _, (gradients, dropped) = jax.lax.scan(outer_step, estimator.init(init_key, theta), keys)
        return jnp.mean(gradients[-outer_steps:], axis=0), jnp.sum(dropped)

    compiled = jax.jit(lambda keys, theta, data: jax.lax.map(lambda key: sample(key, theta, data), keys))
    return lambda keys: jax.tree.map(np.asarray, compiled(keys, theta, estimator.data))


def _made(outer_steps):
    """Outer steps of a sample, including those in which step-unlocked workers leave their first, shortened episodes."""
    return outer_steps if outer_steps == 1 else 2 * outer_steps


class Samples(NamedTuple):
    """Gradients of an estimator, and what they cost."""

    gradients: np.ndarray  # float64[samples, weights]
    dropped: int  # particles in all
    inner_steps: int  # of an outer step
    outer_steps: int  # of a sample
    seconds: float  # of an outer step


def collect(name: str, case: Case, runs: int, count: int, seed: int) -> Samples:
    """Takes `count` samples; the time is that of a second call, without compilation."""
    estimator = make_estimator(name, case, runs)
    outer_steps = 1 if name in _WHOLE_EPISODES else -(-case.horizon // case.window)
    sampler = make_sampler(estimator, case.theta, outer_steps)
    keys = jax.random.split(jax.random.key(seed), count)
    sampler(keys)
    began = time.perf_counter()
    gradients, dropped = sampler(keys)
    seconds = (time.perf_counter() - began) / count / _made(outer_steps)
    length = case.horizon if name in _WHOLE_EPISODES else case.window
    inner_steps = estimator.num_particles * RUNS_OF_A_PARTICLE[name] * length
    return Samples(gradients.astype(np.float64), int(dropped.sum()), inner_steps, outer_steps, seconds)


def compare(samples: Samples, reference: Samples) -> dict:
    """Bias and spread of an estimator, relative to the norm of the reference.

    Args:
      samples: of the estimator, several.
      reference: samples whose mean is taken as right.

    Returns:
      A dict. `distance` of the means; `distance_by_noise`, the root mean square that it would have without bias, from
      the spread of both; `bias`, what is left of the one beyond the other; `std` of a sample and `rmse` of a sample;
      `cosine` between the means.
    """
    mean, right = samples.gradients.mean(axis=0), reference.gradients.mean(axis=0)
    norm = np.linalg.norm(right)
    variance, noise = _variance(samples), _variance(reference) / len(reference.gradients)
    distance, by_noise = np.sum((mean - right) ** 2), variance / len(samples.gradients) + noise
    bias = max(distance - by_noise, 0.0)
    return {
        "bias": float(np.sqrt(bias) / norm),
        "distance": float(np.sqrt(distance) / norm),
        "distance_by_noise": float(np.sqrt(by_noise) / norm),
        "std": float(np.sqrt(variance) / norm),
        "rmse": float(np.sqrt(bias + variance) / norm),
        "cosine": float(mean @ right / (np.linalg.norm(mean) * norm)),
    }


def _variance(samples):
    """Trace of the covariance of a sample."""
    return float(np.sum(np.var(samples.gradients, axis=0, ddof=1)))


def measure(name: str, case: Case, names: Sequence[str], sizes: Sizes, bar: progress.Bar) -> dict:
    """The reference and the rows of a case."""
    bar.set_description(f"{name}, reference")
    reference = collect(case.reference, case, sizes.runs, sizes.reference_samples, seed=1)
    bar.update()
    rows = []
    for estimator in names:
        bar.set_description(f"{name}, {estimator}")
        slow = estimator == "forward_mode" and case.reference != "full_backprop"  # a tangent for each weight
        count = max(2, sizes.samples // 50) if slow else sizes.samples
        samples = collect(estimator, case, sizes.runs, count, seed=2)
        rows.append(
            {
                "estimator": estimator,
                **compare(samples, reference),
                "samples": count,
                "inner_steps_of_a_sample": samples.inner_steps * samples.outer_steps,
                "inner_steps_of_an_outer_step": samples.inner_steps,
                "seconds_of_an_outer_step": samples.seconds,
                "dropped": samples.dropped,
            }
        )
        bar.update()
    right = reference.gradients.mean(axis=0)
    about = {"weights": right.size, "horizon": case.horizon, "window": case.window, "std": case.std}
    error = np.sqrt(_variance(reference) / len(reference.gradients)) / np.linalg.norm(right)
    reference = {"estimator": case.reference, "norm": float(np.linalg.norm(right)), "relative_error": float(error)}
    return {"case": name, **about, "reference": reference, "results": rows}


def plot(records: Sequence[dict], path: pathlib.Path) -> None:
    """Draws bias and standard deviation of each estimator, a panel for each case, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(records), 5), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, record in zip(figure.subplots(1, len(records), squeeze=False).flat, records, strict=True):
        rows = record["results"]
        places = np.arange(len(rows))
        for shift, key, label in ((-0.2, "bias", "bias"), (0.2, "std", "standard deviation of a sample")):
            panel.barh(places + shift, [row[key] for row in rows], 0.4, label=label)
        panel.scatter([r["distance_by_noise"] for r in rows], places - 0.2, marker="|", color="k", label="bias's noise")
        labels = [f"{row['estimator']}\n{1e3 * row['seconds_of_an_outer_step']:.2g} ms a step" for row in rows]
        panel.set(title=record["case"], xlabel="relative to the gradient's norm")
        panel.set_xscale("symlog", linthresh=1e-2)
        panel.set_xlim(left=0)
        panel.set_yticks(places, labels, fontsize=8)
        panel.invert_yaxis()
        panel.grid(alpha=0.3, axis="x")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/estimators.json"))
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES, help="default: all")
    parser.add_argument("--estimator", nargs="+", choices=RUNS_OF_A_PARTICLE, default=list(RUNS_OF_A_PARTICLE))
    parser.add_argument("--theta", type=pathlib.Path, help="safetensors file of the case `trained`")
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    records = []
    with progress.bar(len(arguments.case) * (1 + len(arguments.estimator)), unit="sample") as bar:
        for name in arguments.case:
            case = make_case(name, sizes, arguments.theta)
            records.append(measure(name, case, arguments.estimator, sizes, bar))
    for record in records:
        print(f"{record['case']}: {record['weights']} weights, horizon {record['horizon']}, {record['reference']}")
        for row in record["results"]:
            print(
                f"  {row['estimator']:19} bias {row['bias']:8.3f} (noise {row['distance_by_noise']:.3f})   "
                f"std {row['std']:8.3f}   cosine {row['cosine']:6.3f}   "
                f"{1e3 * row['seconds_of_an_outer_step']:9.2f} ms an outer step of "
                f"{row['inner_steps_of_an_outer_step']:,} inner steps"
            )
    record = {**_STANDARD["about"](), "sizes": sizes._asdict(), "cases": records}
    _STANDARD["write"](record, arguments.out)
    plot(records, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
