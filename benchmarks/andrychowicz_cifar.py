"""The LSTMs of Andrychowicz et al. 2016 (https://arxiv.org/abs/1606.04474) on CIFAR-10, as figures.

`paper_figures.py` runs these; see there. All optimizers begin from the same initial weights and see the same
minibatches of training pictures. A rival is tuned on other runs, for each measure by itself.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import data
from meta_train import tasks
from meta_train.host import progress
from meta_train.recipes import lstm_on_cifar
from meta_train.unroll.inner_step import inner_step

LSTMS = {"LSTM": "coordinatewise-lstm-cifar-v1", "one LSTM": "coordinatewise-lstm-cifar-single-v1"}
SUBSETS = {"andrychowicz-cifar": None, "andrychowicz-cifar-5": (0, 1, 2, 3, 4), "andrychowicz-cifar-2": (0, 1)}
"""Labels of each figure; None: all. They are numbered by name: airplane, automobile, bird, cat, deer, …"""


class Sizes(NamedTuple):
    """How much is run."""

    num_steps: int = 1000
    num_runs: int = 3
    num_tuning: int = 1  # runs that a rate is judged by
    first_look: int = 100  # steps of all rates of a rival, before those are chosen that run to the end
    num_kept: int = 3
    rates: tuple[float, ...] = tuple(float(10 ** (k / 2)) for k in range(-9, 4))


class Runs(NamedTuple):
    """Runs by one optimizer."""

    losses: Any  # float32[…, steps], on the minibatches
    held_out: Any  # float32[…], loss at the end on held-out pictures
    accuracy: Any  # float32[…], likewise


def program(task: tasks.Task, make: Any, num_steps: int) -> Any:
    """Compiles, when it is first called, trainings side by side by the optimizers `make(argument)`.

    Args:
      task: what to train.
      make: `(argument) -> optax transformation`.
      num_steps: of each run.

    Returns:
      `(arguments, keys, data) -> Runs`, with a leading axis of runs on arguments and keys.
    """

    def one(argument, key, data):
        tx = make(argument)
        init_key, step_key = jax.random.split(key)
        params = task.init(init_key, ())

        def step(carry, key):
            made = inner_step(lambda params: task.loss(params, key, data, ()), tx, *carry)
            return (made.params, made.opt_state), made.loss

        carry = params, tx.init(params)
        (params, _), losses = jax.lax.scan(step, carry, jax.random.split(step_key, num_steps))
        end = task.evaluate(params, step_key, data, ())
        return Runs(losses, end["loss"], end["accuracy"])

    return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))


def run(compiled: Any, arguments: Any, keys: jax.Array, data: Any) -> Runs:
    """Runs a `program` in parts of equal size: one run at a time on a CPU, 32 on a GPU."""
    at_once, count = 1 if jax.default_backend() == "cpu" else 32, len(keys)
    parts = []
    for start in progress.over(range(0, count, at_once), unit="part", delay=60.0):
        rows = np.minimum(np.arange(start, start + at_once), count - 1)  # the last part repeats a run
        made = compiled(jax.tree.map(lambda leaf, rows=rows: leaf[rows], arguments), keys[rows], data)
        parts.append(jax.tree.map(np.asarray, made))
    return Runs(*(np.concatenate(each)[:count] for each in zip(*parts, strict=True)))


def chosen_baseline(baselines: Sequence[Any]) -> Any:
    """`((number, rate)) -> optax transformation`: that baseline, so that one compiled program serves all of them."""

    def make(argument):
        number, rate = argument
        parts = [baseline(1.0) for baseline in baselines]

        def init(params):
            return tuple(part.init(params) for part in parts)

        def update(updates, state, params=None, **extra):
            del extra
            made = [part.update(updates, each, params) for part, each in zip(parts, state, strict=True)]
            select = lambda *leaves: rate * jnp.stack(leaves)[number]
            return jax.tree.map(select, *[scaled for scaled, _ in made]), tuple(new for _, new in made)

        return optax.GradientTransformationExtraArgs(init, update)

    return make


def measures(num_steps: int) -> dict[str, Any]:
    """What rivals are tuned for: `(losses [runs, steps]) -> [runs]`, infinite where a run diverged."""
    last = max(1, num_steps // 20)
    finite = lambda losses: np.nan_to_num(losses, nan=np.inf, posinf=np.inf)
    return {
        f"step {num_steps}": lambda losses: finite(losses[:, -last:]).mean(axis=1),
        f"mean of {num_steps} steps": lambda losses: finite(losses).mean(axis=1),
    }


def tuned(
    look: Any, compiled: Any, examples: Any, baselines: dict[str, Any], sizes: Sizes, key: jax.Array
) -> dict[str, dict[str, float]]:
    """The best of the rates for each measure and baseline, on runs from `key` of a `program` of `chosen_baseline`.

    Args:
      look: a program of `sizes.first_look` steps. Rates with the best mean loss there run to the end.
      compiled: one of `sizes.num_steps`.
      examples, baselines, sizes, key: as of the figure.
    """
    count, tries = len(baselines), sizes.num_tuning

    def losses(made_by, rates):
        """Of all runs, float32[baselines, rates, tries, steps]."""
        numbers = np.broadcast_to(np.arange(count)[:, None, None], (count, rates.shape[1], tries))
        keys = jnp.tile(jax.random.split(key, tries), count * rates.shape[1])
        arguments = numbers.reshape(-1), np.repeat(rates, tries, axis=1).reshape(-1).astype(np.float32)
        made = run(made_by, jax.tree.map(jnp.asarray, arguments), keys, examples)
        return made.losses.reshape(*numbers.shape, -1)

    rates = np.tile(np.asarray(sizes.rates), (count, 1))
    early = np.nan_to_num(losses(look, rates), nan=np.inf, posinf=np.inf).mean(axis=(2, 3))
    rates = np.take_along_axis(rates, np.argsort(early, axis=1)[:, : sizes.num_kept], axis=1)
    late = losses(compiled, rates)
    found = {}
    for measure, of in measures(sizes.num_steps).items():
        means = of(late.reshape(-1, late.shape[-1])).reshape(late.shape[:-1]).mean(axis=2)
        found[measure] = {name: float(rates[i, np.argmin(means[i])]) for i, name in enumerate(baselines)}
    return found


def compared(
    compiled: Any,
    examples: Any,
    learned: dict[str, Runs],
    names: Sequence[str],
    rates: dict[str, dict[str, float]],
    keys: jax.Array,
) -> dict[str, dict[str, Runs]]:
    """Runs of the baselines at their rates for each measure, beside those of the LSTMs."""
    chosen = sorted({(i, of_measure[name]) for of_measure in rates.values() for i, name in enumerate(names)})
    numbers, values = (jnp.repeat(jnp.asarray(column), len(keys)) for column in zip(*chosen, strict=True))
    made = run(compiled, (numbers, values), jnp.tile(keys, len(chosen)), examples)
    split = [np.split(part, len(chosen)) for part in made]
    at = {pair: Runs(*(part[i] for part in split)) for i, pair in enumerate(chosen)}
    of = lambda of_measure: {name: at[i, of_measure[name]] for i, name in enumerate(names)}
    return {measure: {**learned, **of(of_measure)} for measure, of_measure in rates.items()}


def by_lstm(task: tasks.Task, name: str, examples: Any, keys: jax.Array, num_steps: int) -> Runs:
    """Runs of an LSTM, released or in a file."""
    optimizer, theta = learned_optim.load_pretrained(name)
    repeated = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], len(keys), axis=0), theta)
    return run(program(task, by_units(optimizer).transform, num_steps), repeated, keys, examples)


def record(figure: str, runs: dict[str, dict[str, Runs]], judged: Any) -> dict[str, Any]:
    """Means and standard errors of each measure, and of the held-out loss at the rates for the last step."""
    num_steps = next(iter(next(iter(runs.values())).values())).losses.shape[1]
    results = {}
    for measure, of in measures(num_steps).items():
        losses = {name: of(made.losses) for name, made in runs[measure].items()}
        results[measure] = {name: judged(_beside_baselines(losses, name)) for name in LSTMS if name in losses}
    last = next(iter(runs.values()))
    made = {
        "claim": "the LSTM ends below each tuned optimizer",
        "final_loss": {
            name: float(measures(num_steps)[f"step {num_steps}"](r.losses).mean()) for name, r in last.items()
        },
        "measures": results,
        "held_out_loss": {name: _mean_and_error(each.held_out) for name, each in last.items()},
        "held_out_accuracy": {name: _mean_and_error(each.accuracy) for name, each in last.items()},
        "labels": SUBSETS[figure] or "all",
        "runs": len(last["LSTM"].losses),
    }
    return made


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of these figures."""
    parser.add_argument(
        "--rates-of", type=pathlib.Path, metavar="FILE", help="on CIFAR-10: take an earlier run's rates"
    )
    parser.add_argument("--runs", type=int, help="on CIFAR-10: to report for each optimizer (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="on CIFAR-10: of all runs (default: %(default)s)")


def options(figure: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of these options, as arguments of `cifar`. Rates found with all labels serve a part of them."""
    figures = json.loads(arguments.rates_of.read_text(encoding="utf-8"))["figures"] if arguments.rates_of else {}
    earlier = figures.get(figure) or figures.get("andrychowicz-cifar") or {"learning_rate": None}
    return {"rates": earlier["learning_rate"], "seed": arguments.seed, "num_runs": arguments.runs}


def cifar(
    figure: str,
    quick: bool,
    baselines: dict[str, Any],
    judged: Any,
    *,
    lstms: Sequence[str] | None,
    rates: Any,
    seed: int,
    num_runs: int | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record of a figure, and the curves to draw.

    Args:
      figure: a name of `SUBSETS`.
      quick: toy sizes.
      baselines: `(rate) -> optax transformation` by name.
      judged: see `andrychowicz.judged`.
      lstms: the pair and then the single LSTM, released or in files; or the first alone; None: the released ones.
      rates: learning rates by measure and baseline that an earlier run found; None: search for them.
      seed: of all runs. Thetas are chosen by another seed than the one reported.
      num_runs: to report for each optimizer; None: as many as the sizes say.
    """
    sizes = Sizes(4, 2, 1, 2, 1, (1e-3, 1e-2)) if quick else Sizes()
    sizes = sizes._replace(num_runs=num_runs or sizes.num_runs)
    dataset = data.load("cifar10")
    labels = SUBSETS[figure]
    task = lstm_on_cifar.cifar_task(lstm_on_cifar.of_labels(dataset, labels) if labels else dataset)
    examples = jax.tree.map(jnp.asarray, task.data)
    tuning_key, report_key = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(report_key, sizes.num_runs)
    compiled = program(task, chosen_baseline(tuple(baselines.values())), sizes.num_steps)
    look = program(task, chosen_baseline(tuple(baselines.values())), sizes.first_look)
    rates = rates or tuned(look, compiled, examples, baselines, sizes, tuning_key)
    released = learned_optim.list_pretrained()
    chosen = dict(zip(LSTMS, lstms, strict=False)) if lstms else {k: v for k, v in LSTMS.items() if v in released}
    learned = {shown: by_lstm(task, name, examples, keys, sizes.num_steps) for shown, name in chosen.items()}
    runs = compared(compiled, examples, learned, tuple(baselines), rates, keys)
    curves = {name: smooth(made.losses) for name, made in next(iter(runs.values())).items()}
    return {**record(figure, runs, judged), "learning_rate": rates, "lstm": chosen, "seed": seed}, curves


def smooth(losses: np.ndarray, width: int = 20) -> np.ndarray:
    """Means of so many steps in a row, float[runs, steps - width + 1]; fewer steps stay as they are."""
    if losses.shape[1] < 2 * width:
        return losses
    sums = np.cumsum(np.pad(losses.astype(np.float64), ((0, 0), (1, 0))), axis=1)
    return (sums[:, width:] - sums[:, :-width]) / width


def _beside_baselines(losses, name):
    """One LSTM, as "LSTM", and the baselines."""
    return {"LSTM": losses[name], **{other: x for other, x in losses.items() if other not in LSTMS}}


def _mean_and_error(values):
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
