"""As many hyperparameters as weights, by implicit differentiation, on scikit-learn's digits.

- `penalties`: an L2 penalty for each weight (conjugate gradients, Neumann series, identity), beside the best single
  penalty of a grid: with as many validation examples as training ones, which are fitted like training examples, and
  with many.
- `augmentation`: a network that changes the training examples, beside the best single penalty and beside nothing.

What is learned is judged by a training from scratch, from the initial parameters that it was learned with, and from
others (`other start`). Writes JSON, and a plot for each part.

    python benchmarks/penalties.py [--part NAME …] [--case NAME …] [--model NAME …] [--seeds N] [--out FILE] [--quick]
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import json
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import Bilevel
from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import problems
from meta_train.estimators import linear_solvers
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine
from meta_train.unroll.units import UnitsFn
from meta_train.unroll.units import in_units

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
PARTS = ("penalties", "augmentation")
RATE = 0.1  # of the inner descent, and step size of the Neumann series
SOLVERS = {
    "CG": linear_solvers.conjugate_gradient(max_steps=20, damping=1e-3),
    "Neumann": linear_solvers.neumann(num_terms=20, step_size=RATE),
    "identity": linear_solvers.identity(),
}


class Sizes(NamedTuple):
    """How much is trained."""

    outer_steps: int = 300
    inner_steps: int = 20
    retraining_steps: int = 2_000
    seeds: int = 3
    cases: tuple[tuple[str, int, int], ...] = (("few", 50, 50), ("many", 200, 800))  # to train on, to validate
    models: tuple[tuple[str, tuple[int, ...]], ...] = (("linear", ()), ("perceptron", (32,)))


QUICK = Sizes(4, 2, 10, 1, (("few", 20, 20),), (("linear", ()),))


class Learned(NamedTuple):
    """What was learned, and on the way."""

    theta: Any
    start: Any  # the inner parameters before the first step
    curves: dict[str, np.ndarray]  # float[outer steps] each, of the inner parameters
    seconds: float  # of processor time, compilation included


class Splits(NamedTuple):
    """Digits to train on, to validate, and to test."""

    trusted: problems.TrustedData
    test_x: np.ndarray
    test_y: np.ndarray


def digits(num_train: int, num_valid: int, seed: int) -> Splits:
    """Splits of scikit-learn's digits; the test examples are all that is left."""
    dataset = data.load("digits")
    x, y = (np.concatenate([getattr(dataset, f"{part}_{axis}") for part in ("train", "test")]) for axis in "xy")
    order = np.random.default_rng(seed).permutation(len(x))
    train, valid, test = np.split(order, [num_train, num_train + num_valid])
    return Splits(problems.TrustedData(x[train], y[train], x[valid], y[valid]), x[test], y[test])


def measured(network: few_shot.Network, splits: Splits) -> Callable[[Any], dict[str, jax.Array]]:
    """The function from parameters to losses and errors on all three parts."""
    parts = {
        "train": splits.trusted[:2],
        "valid": splits.trusted[2:],
        "test": (splits.test_x, splits.test_y),
    }

    def measure(params):
        found = {}
        for name, (x, y) in parts.items():
            logits = network.apply(params, jnp.asarray(x))
            found[f"{name}_loss"] = jnp.mean(cross_entropy(logits, jnp.asarray(y)))
            found[f"{name}_error"] = jnp.mean((jnp.argmax(logits, axis=-1) != jnp.asarray(y)).astype(jnp.float32))
        return found

    return measure


def learn(
    bilevel: Bilevel,
    theta: Any,
    outer: optax.GradientTransformation,
    solver: Any,
    measure: Callable[[Any], Any],
    sizes: Sizes,
    seed: int,
    units: UnitsFn | None = None,
) -> Learned:
    """Learns theta by implicit differentiation, and measures the inner parameters after each outer step."""
    began = time.process_time()
    estimator = estimators.implicit(
        bilevel,
        inner_optimizer=optax.sgd(RATE, momentum=0.9),
        inner_steps=sizes.inner_steps,
        solver=solver,
        units=units,
    )

    def step(carry, key):
        theta, state, outer_state = carry
        gradient, state, info = estimator.estimate(key, theta, state, bilevel.data)
        updates, outer_state = outer.update(gradient, outer_state)
        found = measure(jax.tree.map(lambda x: x[0], state.inner.params))
        return (optax.apply_updates(theta, updates), state, outer_state), found | {"dropped": info.dropped}

    keys = jax.random.split(jax.random.key(seed), sizes.outer_steps)
    state = estimator.init(jax.random.key(seed + 1), theta)
    (found, _, _), curves = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((theta, state, outer.init(theta)))
    start, curves = jax.tree.map(lambda x: x[0], state.inner.params), jax.tree.map(np.asarray, curves)
    return Learned(found, start, curves, time.process_time() - began)


def trained(bilevel: Bilevel, theta: Any, params: Any, steps: int, seed: int, units: UnitsFn | None = None) -> Any:
    """The parameters after a training with theta as it is."""
    optimizer = optax.sgd(RATE, momentum=0.9)
    if units is not None:
        optimizer = in_units(optimizer, units(theta, params))

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(bilevel.inner_loss)(params, theta, key, bilevel.data)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), ()

    keys = jax.random.split(jax.random.key(seed + 3), steps)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]


def judge(
    bilevel: Bilevel, learned: Learned, measure: Callable[[Any], Any], sizes: Sizes, seed: int, units: Any = None
) -> dict[str, Any]:
    """A row of the record: trainings from scratch with what was learned, and curves of the learning."""
    again = jax.jit(lambda start: measure(trained(bilevel, learned.theta, start, sizes.retraining_steps, seed, units)))
    other = again(bilevel.init(jax.random.key(seed + 2), learned.theta))
    dropped, last = int(learned.curves["dropped"].sum()), max(1, sizes.outer_steps // 50)
    return {
        **{name: float(value) for name, value in again(learned.start).items()},
        "other_start_test_error": float(other["test_error"]),
        "least_valid_error_on_the_way": float(learned.curves["valid_error"].min()),
        "not_finite": dropped,
        "seconds": learned.seconds,
        "curves": {name: values[::last].astype(float).tolist() for name, values in learned.curves.items()},
    }


def best_single(bilevel: Bilevel, measure: Callable[[Any], Any], sizes: Sizes, seed: int) -> dict[str, float]:
    """The best of 25 single penalties by validation loss."""

    def train(log):
        start = bilevel.init(jax.random.key(seed + 2), log)
        return measure(trained(bilevel, log, start, sizes.retraining_steps, seed))

    coefficients = np.geomspace(1e-5, 1.0, 25)
    found = jax.jit(jax.vmap(train))(jnp.log(jnp.asarray(coefficients, jnp.float32)))
    best = int(np.argmin(found["valid_loss"]))
    return {name: float(values[best]) for name, values in found.items()} | {"coefficient": float(coefficients[best])}


def plain_training(splits: Splits, network: few_shot.Network) -> Bilevel:
    """The mean loss of the training examples, and that of the validation examples."""

    def loss(theta, apply, rows, inputs, targets):
        del theta, rows
        return jnp.mean(cross_entropy(apply(inputs), targets))

    return problems.judged_by_trusted(splits.trusted, network, loss, name="plain", batch_size=10_000)


def penalties(sizes: Sizes) -> Iterator[dict]:
    """An L2 penalty for each weight beside a single one: few validation examples, and many."""
    units = problems.penalty_units(RATE)
    for case, num_train, num_valid in sizes.cases:
        for model, hidden in sizes.models:
            network = few_shot.perceptron(10, hidden)
            for seed in range(sizes.seeds):
                splits = digits(num_train, num_valid, seed)
                measure, plain = measured(network, splits), plain_training(splits, network)
                bilevel, about = problems.weight_penalty(plain), {"case": case, "model": model, "seed": seed}
                single = best_single(bilevel, measure, sizes, seed)
                yield {**about, "way": "best single", **single}
                params = jax.eval_shape(plain.init, jax.random.key(0), ())
                theta = problems.penalty_theta(params, single["coefficient"])
                for way, solver in SOLVERS.items():
                    learned = learn(bilevel, theta, optax.adam(0.1), solver, measure, sizes, seed, units)
                    yield {**about, "way": way, **judge(bilevel, learned, measure, sizes, seed, units)}


def augmentation(sizes: Sizes) -> Iterator[dict]:
    """A network that changes 200 training digits, learned on 800 validation digits, with the best single penalty."""
    network, augmenter = few_shot.perceptron(10, (32,)), few_shot.perceptron(64, (32,))
    ways = {name: solver for name, solver in SOLVERS.items() if name != "CG"}  # whose Hessian changes with the noise
    for seed in range(sizes.seeds):
        splits = digits(200, 800, seed)
        measure, plain = measured(network, splits), plain_training(splits, network)
        single = best_single(problems.weight_penalty(plain), measure, sizes, seed)
        yield {"seed": seed, "way": "best single", **single}
        start = plain.init(jax.random.key(seed + 2), ())
        none = jax.jit(lambda start, p=plain, m=measure, s=seed: m(trained(p, (), start, sizes.retraining_steps, s)))
        yield {"seed": seed, "way": "nothing", **{name: float(x) for name, x in none(start).items()}}
        bilevel = problems.learned_augmentation(
            splits.trusted, network, augmenter, batch_size=10_000, penalty=single["coefficient"]
        )
        theta = problems.augmenter_theta(splits.trusted, augmenter, jax.random.key(seed))
        for way, solver in ways.items():
            learned = learn(bilevel, theta, optax.adam(1e-3), solver, measure, sizes, seed)
            yield {"seed": seed, "way": way, **judge(bilevel, learned, measure, sizes, seed)}


def print_row(row: dict) -> None:
    """Prints the errors of a row, in percent."""
    errors = "  ".join(f"{part} {100 * row[f'{part}_error']:6.2f}" for part in ("train", "valid", "test"))
    title = f"{row.get('case', ''):5} {row.get('model', ''):10} {row['way']:15}"
    print(f"{title} errors, %: {errors}   test loss {row['test_loss']:.3f}", flush=True)


def summarize(rows: list[dict]) -> list[dict]:
    """Means over the seeds, and the standard error of the test error."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row.get("case", ""), row.get("model", ""), row["way"]), []).append(row)
    summary = []
    print("means over the seeds:")
    for (case, model, way), group in groups.items():
        names = [name for name, value in group[0].items() if isinstance(value, float | int) and name != "seed"]
        means = {name: float(np.mean([row[name] for row in group])) for name in names}
        summary.append({"case": case, "model": model, "way": way, "seeds": len(group), **means})
        errors = [row["test_error"] for row in group]
        if len(group) > 1:
            summary[-1]["test_error_standard_error"] = float(np.std(errors, ddof=1) / len(group) ** 0.5)
        print_row(summary[-1])
    return summary


def plot_errors(rows: list[dict], path: pathlib.Path) -> None:
    """Draws errors of the first seed over the outer steps, a panel for each case and model, to a PNG."""
    first = [row for row in rows if row["seed"] == 0]
    titles = list(dict.fromkeys((row.get("case", ""), row.get("model", "")) for row in first))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.8 * len(titles), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for panel, title in zip(panels, titles, strict=True):
        mine = [row for row in first if (row.get("case", ""), row.get("model", "")) == title]
        for color, row in zip(("C0", "C1", "C2"), (row for row in mine if "curves" in row), strict=False):
            for part, style in (("valid", "-"), ("test", "--")):
                panel.plot(row["curves"][f"{part}_error"], style, color=color, label=f"{part}, {row['way']}")
        panel.axhline(mine[0]["test_error"], color="gray", linestyle=":", label=f"test, {mine[0]['way']}")
        panel.set(title=" ".join(title), xlabel="outer steps, in fiftieths", ylabel="error")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--case", nargs="+", choices=("few", "many"), help="of the part penalties (default: both)")
    parser.add_argument("--model", nargs="+", choices=("linear", "perceptron"), help="likewise")
    parser.add_argument("--seeds", type=int, help="(default: 3)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/penalties.json"))
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    sizes = sizes._replace(
        seeds=arguments.seeds or sizes.seeds,
        cases=tuple(case for case in sizes.cases if case[0] in (arguments.case or case)),
        models=tuple(model for model in sizes.models if model[0] in (arguments.model or model)),
    )
    record = {**_STANDARD["about"](), "sizes": sizes._asdict()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for part, measure in (("penalties", penalties), ("augmentation", augmentation)):
        if part in arguments.part:
            rows = []
            for row in measure(sizes):
                print_row(row)
                rows.append(row)
                record[part] = {"results": rows}
                arguments.out.write_text(json.dumps(record), encoding="utf-8")  # for a run that is stopped
            record[part] = {"summary": summarize(rows), "results": rows}
            plot_errors(rows, arguments.out.with_suffix(f".{part}.png"))
    _STANDARD["write"](record, arguments.out)


if __name__ == "__main__":
    main()
