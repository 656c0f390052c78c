"""Hyperparameters by hypergradients: schedules of a whole training, and as many hyperparameters as weights.

- `agreement`: the hypergradient of SGD's schedules (rate, momentum, weight decay) by forward mode, reversible learning
  and full backpropagation, in float64: how far apart they are, seconds, and temporary memory as XLA counts it for
  horizons up to 10,000 steps. A perceptron on pictures.
- `schedules`: on the same problem, 1,000 examples to train on and 1,000 to validate: a grid of 100 constant settings,
  the same grid with a cosine on the rate, and schedules that are learned by hypergradients from the best constants on.
  All are judged on seeds that nothing was chosen by.
- `penalties`: an L2 penalty for each weight by implicit differentiation (Neumann series, conjugate gradients,
  identity), beside the best single penalty of a grid: with as many validation examples as training ones, which are
  fitted like training examples, and with many.
- `augmentation`: a network that changes the training examples, by the same means.

The last two are on scikit-learn's digits. Writes JSON and a plot for each part.

    python benchmarks/hyperparameters.py [--data mnist --size 14 --data-dir FOLDER] [--part NAME ...] [--out FILE]
"""

import argparse
from collections.abc import Callable
import functools
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import Bilevel
from meta_train import Task
from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import problems
from meta_train import tasks
from meta_train import truncation
from meta_train.adaptation import clock
from meta_train.adaptation import trainings
from meta_train.adaptation.journal import Journal
from meta_train.estimators import linear_solvers
from meta_train.evaluation import lanes
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine
from meta_train.tuning import descent
from meta_train.tuning import grid
from meta_train.tuning.scheduled_sgd import scheduled_sgd

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
PARTS = ("agreement", "schedules", "penalties", "augmentation")
SOLVERS = {
    "Neumann": linear_solvers.neumann(num_terms=20, step_size=0.1),
    "CG": linear_solvers.conjugate_gradient(max_steps=20, damping=1e-3),
    "identity": linear_solvers.identity(),
}


class Sizes(NamedTuple):
    """How much is trained."""

    num_train: int = 1_000
    num_valid: int = 1_000
    num_test: int = 5_000
    hidden_sizes: tuple[int, ...] = (32,)
    batch_size: int = 64
    num_steps: int = 1_000
    num_blocks: int = 10
    num_settings: int = 100
    outer_steps: int = 24  # along hypergradients
    trainings: int = 4  # of a hypergradient
    seconds: float = 3_600.0  # at most, for the descent
    seeds: int = 8
    width: int = 20  # trainings side by side
    horizons: tuple[int, ...] = (100, 1_000, 10_000)
    timed_horizon: int = 100
    penalty_steps: int = 400  # outer steps
    inner_steps: int = 20
    retraining_steps: int = 2_000
    penalty_seeds: int = 3
    penalty_cases: tuple[tuple[str, int, int], ...] = (("few", 50, 50), ("many", 200, 800))  # to train on, to validate
    penalty_models: tuple[tuple[str, tuple[int, ...]], ...] = (("linear", ()), ("perceptron", (32,)))


QUICK = Sizes(
    num_train=40,
    num_valid=40,
    num_test=40,
    hidden_sizes=(4,),
    batch_size=8,
    num_steps=12,
    num_blocks=3,
    num_settings=30,
    outer_steps=2,
    trainings=2,
    seconds=1_000.0,
    seeds=2,
    width=10,
    horizons=(4,),
    timed_horizon=4,
    penalty_steps=4,
    inner_steps=2,
    retraining_steps=10,
    penalty_seeds=1,
    penalty_cases=(("few", 20, 20),),
    penalty_models=(("linear", ()),),
)


def subset(dataset: data.Dataset, sizes: Sizes) -> Task:
    """The task: its held-out loss is that of the validation examples; test examples are only measured."""
    network = few_shot.perceptron(data.num_classes(dataset), sizes.hidden_sizes)
    order = np.random.default_rng(0).permutation(len(dataset.train_x))
    train, valid = np.split(order[: sizes.num_train + sizes.num_valid], [sizes.num_train])
    held_out = {
        "x": np.concatenate([dataset.train_x[valid], dataset.test_x[: sizes.num_test]]),
        "y": np.concatenate([dataset.train_y[valid], dataset.test_y[: sizes.num_test]]),
    }

    def metrics(params, batch):
        logits, y = network.apply(params, batch["x"]), batch["y"]
        losses, wrong = cross_entropy(logits, y), (jnp.argmax(logits, axis=-1) != y).astype(jnp.float32)
        parts = {"": slice(0, sizes.num_valid), "test_": slice(sizes.num_valid, None)}
        return {f"{name}loss": jnp.mean(losses[part]) for name, part in parts.items()} | {
            f"{name}error": jnp.mean(wrong[part]) for name, part in parts.items()
        }

    return tasks.from_functions(
        "pictures",
        init=lambda key: network.init(key, dataset.train_x[:1]),
        loss=lambda params, batch, key: jnp.mean(cross_entropy(network.apply(params, batch["x"]), batch["y"])),
        data={"x": dataset.train_x[train], "y": dataset.train_y[train]},
        batch_size=sizes.batch_size,
        held_out=lambda key: held_out,
        metrics=metrics,
    )


def agreement(task: Task, sizes: Sizes) -> dict:
    """The three ways to the same hypergradient."""
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        doubled = lambda tree: jax.tree.map(
            lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
        )
        plain = problems.task_bilevel(task, held_out=False)  # for `evaluate` gives float32
        still = jax.random.key(3)  # the ways draw from keys of their own: so nothing is drawn

        def fixed(loss):
            def same(params, theta, key, data):
                del key
                return loss(params, theta, still, data)

            return same

        bilevel = Bilevel(
            fixed(plain.inner_loss),
            fixed(plain.outer_loss),
            lambda key, theta: doubled(plain.init(still, theta)),
            doubled(plain.data),
            "pictures",
        )
        theta = doubled(problems.hyper_theta(learning_rate=0.02, weight_decay=1e-3, num_blocks=sizes.num_blocks))
        ways = {
            "full backpropagation": estimators.full_backprop,
            "forward mode": functools.partial(estimators.forward_mode, block_size=3 * sizes.num_blocks),
            "reversible learning": estimators.reversible,
        }
        gradients = {}
        for way, make in ways.items():
            for horizon in sizes.horizons:
                problem = problems.hyperparameters(bilevel, num_steps=horizon)
                estimator = make(problem, num_particles=1, horizon=truncation.constant(horizon))
                state, key = estimator.init(jax.random.key(0), theta), jax.random.key(1)
                compiled = jax.jit(estimator.estimate).lower(key, theta, state, estimator.data).compile()
                row = {
                    "way": way,
                    "horizon": horizon,
                    "temporary_bytes": _STANDARD["memory_of"](compiled).temp_size_in_bytes,
                }
                if horizon == sizes.timed_horizon:
                    arguments = key, theta, state, estimator.data
                    gradients[way] = jnp.concatenate(jax.block_until_ready(compiled(*arguments))[0])
                    began = time.perf_counter()
                    jax.block_until_ready(compiled(*arguments))
                    row["seconds"] = time.perf_counter() - began
                rows.append(row)
        expected = gradients["full backpropagation"]
        apart = {
            way: float(jnp.linalg.norm(gradient - expected) / jnp.linalg.norm(expected))
            for way, gradient in gradients.items()
        }
    for row in rows:
        print(
            f"{row['way']:22} {row['horizon']:>6,} steps  {row['temporary_bytes'] / 1e6:8.2f} MB  "
            f"{row.get('seconds', '')}"
        )
    print(f"relative distance from full backpropagation: {apart}")
    return {"memory": rows, "relative_distance": apart}


def schedules(task: Task, sizes: Sizes, journal_file: pathlib.Path) -> dict:
    """Constants, a cosine, and learned schedules."""
    like: Any = problems.hyper_theta(learning_rate=1.0, num_blocks=sizes.num_blocks)
    made = trainings.build(
        task, scheduled_sgd(sizes.num_blocks), like, width=sizes.width, size=sizes.num_steps, num_marks=1
    )

    def measure(points, seeds, stream):
        keys = lanes.keys(seeds.stop, stream)[np.tile(np.arange(seeds.start, seeds.stop), len(points))]
        found = made.run(np.repeat(points, len(seeds), axis=0), keys, (sizes.num_steps,), data=task.data).held_out
        return {name: values[-1].reshape(len(points), len(seeds)) for name, values in found.items()}

    def finals(points, seeds, name):
        lost = lambda: np.nan_to_num(measure(points, seeds, trainings.SEARCH)["loss"], nan=1e9, posinf=1e9).tolist()
        return np.array(journal.recall(name, lost))

    journal = Journal(journal_file, sizes._asdict(), resume=True, what="a benchmark")
    tried = grid.settings(sizes.num_settings)
    constant = np.stack([grid.as_point(each, sizes.num_blocks) for each in tried])
    cosine = constant.copy()
    places = (np.arange(sizes.num_blocks) + 0.5) / sizes.num_blocks
    cosine[:, : sizes.num_blocks] += np.log(0.5 * (1 + np.cos(np.pi * places)))
    rows, chosen = {}, {}
    for name, points in (("constants", constant), ("cosine", cosine)):
        first = finals(points, range(1), name)[:, 0]
        finalists = np.argsort(first, kind="stable")[: grid.NUM_FINALISTS]
        more = finals(points[finalists], range(1, 1 + grid.FINAL_SEEDS), f"{name}, finalists")
        best = finalists[np.argmin(first[finalists] + more.sum(axis=1))]
        chosen[name], rows[name] = points[best], {"setting": tried[best]._asdict()}
        print(f"{name}: {tried[best]}")
    began = time.perf_counter()
    find = descent.hypergradients(task, task.data, sizes.num_steps, sizes.num_blocks, held_out=True, way="backprop")
    with clock.shown(journal.seconds, sizes.seconds, quiet=False) as timer:
        path = descent.descend(
            find, chosen["constants"], journal, timer, seeds=sizes.trainings, until=0.0, seed=0, most=sizes.outer_steps
        )
    chosen["learned schedules"] = path.points[len(path.points) * 2 // 3 :].mean(axis=0)
    theta = problems.HyperTheta(*jnp.asarray(chosen["learned schedules"], jnp.float32).reshape(3, -1))
    values = jax.tree.map(lambda x: np.asarray(x).tolist(), problems.schedules(theta))
    rows["learned schedules"] = {"schedules": values._asdict()}
    final = measure(np.stack(list(chosen.values())), range(sizes.seeds), lanes.REPORT)
    for i, (name, row) in enumerate(rows.items()):
        row |= {metric: values[i].astype(float).tolist() for metric, values in final.items()}
        text = ", ".join(f"{metric} {np.mean(row[metric]):.4f} ± {_error(row[metric]):.4f}" for metric in final)
        print(f"{name:18} {text}")
    return {
        "trainings": rows,
        "losses_on_the_way": path.losses.tolist(),
        "seconds_of_learning": time.perf_counter() - began,
    }


def _error(values):
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


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


def learn(bilevel: Bilevel, theta: Any, solver: Any, measure: Callable[[Any], Any], sizes: Sizes, seed: int):
    """Learns theta by implicit differentiation. Returns it, and what `measure` says of the parameters on the way."""
    estimator = estimators.implicit(
        bilevel,
        inner_optimizer=optax.sgd(0.1, momentum=0.9),
        inner_steps=sizes.inner_steps,
        solver=solver,
    )
    outer = optax.adam(0.1) if theta_is_logs(theta) else optax.adam(3e-3)

    def step(carry, key):
        theta, state, outer_state = carry
        gradient, state, _ = estimator.estimate(key, theta, state, bilevel.data)
        updates, outer_state = outer.update(gradient, outer_state)
        params = jax.tree.map(lambda x: x[0], state.inner.params)
        return (optax.apply_updates(theta, updates), state, outer_state), measure(params)

    keys = jax.random.split(jax.random.key(seed), sizes.penalty_steps)
    carry = theta, estimator.init(jax.random.key(seed + 1), theta), outer.init(theta)
    (theta, _, _), curves = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(carry)
    return theta, jax.tree.map(np.asarray, curves)


def theta_is_logs(theta: Any) -> bool:
    """Whether theta is penalties: these begin at one negative number."""
    return all(np.all(np.asarray(leaf) == np.asarray(leaf).ravel()[0]) for leaf in jax.tree.leaves(theta))


def retrain(bilevel: Bilevel, theta: Any, measure: Callable[[Any], Any], sizes: Sizes, seed: int) -> dict[str, float]:
    """Trains from scratch with theta as it is, and measures."""
    optimizer = optax.sgd(0.1, momentum=0.9)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(bilevel.inner_loss)(params, theta, key, bilevel.data)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), ()

    params = bilevel.init(jax.random.key(seed + 2), theta)
    keys = jax.random.split(jax.random.key(seed + 3), sizes.retraining_steps)
    train = jax.jit(lambda carry: measure(jax.lax.scan(step, carry, keys)[0][0]))
    return {name: float(value) for name, value in train((params, optimizer.init(params))).items()}


def penalties(sizes: Sizes) -> list[dict]:
    """An L2 penalty for each weight beside a single one: few validation examples, and many."""
    rows = []
    for case, num_train, num_valid in sizes.penalty_cases:
        for model, hidden in sizes.penalty_models:
            network = few_shot.perceptron(10, hidden)
            for seed in range(sizes.penalty_seeds):
                splits = digits(num_train, num_valid, seed)
                measure = measured(network, splits)
                plain = problems.judged_by_trusted(
                    splits.trusted, network, _mean_loss, name="penalties", batch_size=10_000
                )
                bilevel = problems.weight_penalty(plain)
                about = {"case": case, "model": model, "seed": seed}
                single = best_single(bilevel, measure, sizes, seed)
                rows.append({**about, "way": "best single", **single})
                params = jax.eval_shape(plain.init, jax.random.key(0), ())
                theta = problems.penalty_theta(params, single["coefficient"])
                for way, solver in SOLVERS.items():
                    found, curves = learn(bilevel, theta, solver, measure, sizes, seed)
                    again = retrain(bilevel, found, measure, sizes, seed)
                    rows.append({**about, "way": way, **again, "curves": _thinned(curves)})
    return rows


def _mean_loss(theta, apply, rows, inputs, targets):
    del theta, rows
    return jnp.mean(cross_entropy(apply(inputs), targets))


def _thinned(curves):
    return {name: values[:: max(1, len(values) // 50)].astype(float).tolist() for name, values in curves.items()}


def best_single(bilevel: Bilevel, measure: Callable[[Any], Any], sizes: Sizes, seed: int) -> dict[str, float]:
    """The best of 25 single penalties by validation loss."""
    optimizer = optax.sgd(0.1, momentum=0.9)

    def train(log):
        def step(carry, key):
            params, state = carry
            gradient = jax.grad(bilevel.inner_loss)(params, log, key, bilevel.data)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), ()

        params = bilevel.init(jax.random.key(seed + 2), log)
        keys = jax.random.split(jax.random.key(seed + 3), sizes.retraining_steps)
        return measure(jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0])

    coefficients = np.geomspace(1e-5, 1.0, 25)
    found = jax.jit(jax.vmap(train))(jnp.log(jnp.asarray(coefficients, jnp.float32)))
    best = int(np.argmin(found["valid_loss"]))
    return {name: float(values[best]) for name, values in found.items()} | {"coefficient": float(coefficients[best])}


def augmentation(sizes: Sizes) -> list[dict]:
    """A network that changes 200 training digits, learned on 800 validation digits."""
    rows, network, augmenter = [], few_shot.perceptron(10, (32,)), few_shot.perceptron(64, (32,))
    ways = {name: solver for name, solver in SOLVERS.items() if name != "CG"}  # whose Hessian changes with the noise
    for seed in range(sizes.penalty_seeds):
        splits = digits(200, 800, seed)
        measure = measured(network, splits)
        plain = problems.judged_by_trusted(splits.trusted, network, _mean_loss, name="plain", batch_size=10_000)
        single = best_single(problems.weight_penalty(plain), measure, sizes, seed)
        rows.append({"seed": seed, "way": "best single L2", **single})
        none = retrain(plain, jnp.zeros(()), measure, sizes, seed)
        rows.append({"seed": seed, "way": "nothing", **none})
        bilevel = problems.learned_augmentation(splits.trusted, network, augmenter, batch_size=10_000)
        theta = problems.augmenter_theta(splits.trusted, augmenter, jax.random.key(seed))
        for way, solver in ways.items():
            found, curves = learn(bilevel, theta, solver, measure, sizes, seed)
            again = retrain(bilevel, found, measure, sizes, seed)
            rows.append({"seed": seed, "way": way, **again, "curves": _thinned(curves)})
    return rows


def summarize(rows: list[dict]) -> list[dict]:
    """Means over the seeds, and the standard error of the test error."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row.get("case", ""), row.get("model", ""), row["way"]), []).append(row)
    summary = []
    for (case, model, way), group in groups.items():
        means = {
            f"{part}_{kind}": float(np.mean([row[f"{part}_{kind}"] for row in group]))
            for part in ("train", "valid", "test")
            for kind in ("loss", "error")
        }
        summary.append({"case": case, "model": model, "way": way, "seeds": len(group), **means})
        errors = "  ".join(f"{part} {100 * means[f'{part}_error']:6.2f}" for part in ("train", "valid", "test"))
        print(f"{case:5} {model:10} {way:15} errors, %: {errors}   test loss {means['test_loss']:.3f}")
    return summary


def plot_schedules(found: dict, num_steps: int, path: pathlib.Path) -> None:
    """Draws the learned schedules beside the best constants, and the loss on the way, to a PNG."""
    figure, panels = _figure(4)
    learned = found["trainings"]["learned schedules"]["schedules"]
    constants = found["trainings"]["constants"]["setting"]
    for panel, (name, values) in zip(panels, learned.items(), strict=False):
        values, constant = np.asarray(values), constants[name]
        if name == "momentum":
            values, constant = 1 - values, 1 - constant
        panel.stairs(values, np.linspace(0, num_steps, len(values) + 1), baseline=None, label="learned", linewidth=1.8)
        if constant > 0:
            panel.axhline(constant, color="gray", linestyle="--", label="best constants")
        panel.set(title="1 − momentum" if name == "momentum" else name.replace("_", " "), xlabel="step", yscale="log")
        panel.legend(fontsize=8)
    panels[3].plot(found["losses_on_the_way"], label="learned, on the way")
    for name, style in (("constants", "--"), ("cosine", ":")):
        panels[3].axhline(
            np.mean(found["trainings"][name]["loss"]), color="gray", linestyle=style, label=f"best {name}"
        )
    panels[3].set(title="validation loss at the end", xlabel="outer step")
    panels[3].legend(fontsize=8)
    _save(figure, path)


def plot_errors(rows: list[dict], path: pathlib.Path) -> None:
    """Draws errors of the first seed over the outer steps, a panel for each case and model, to a PNG."""
    first = [row for row in rows if row["seed"] == 0]
    titles = list(dict.fromkeys((row.get("case", ""), row.get("model", "")) for row in first))
    figure, panels = _figure(len(titles))
    for panel, title in zip(panels, titles, strict=True):
        mine = [row for row in first if (row.get("case", ""), row.get("model", "")) == title]
        for color, row in zip(("C0", "C1", "C2"), (row for row in mine if "curves" in row), strict=False):
            for part, style in (("valid", "-"), ("test", "--")):
                panel.plot(row["curves"][f"{part}_error"], style, color=color, label=f"{part}, {row['way']}")
        panel.axhline(mine[0]["test_error"], color="gray", linestyle=":", label=f"test, {mine[0]['way']}")
        panel.set(title=" ".join(title), xlabel="outer steps, in fiftieths", ylabel="error")
        panel.legend(fontsize=7)
    _save(figure, path)


def _figure(number):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.8 * number, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, number, squeeze=False)[0]
    for panel in panels:
        panel.grid(alpha=0.3)
    return figure, panels


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", default="digits", help="a data set of pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, help="height and width to which pictures are reduced")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/hyperparameters.json"))
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.data == "digits" and not arguments.quick:
        sizes = sizes._replace(num_train=700, num_valid=700)
    record = {**_STANDARD["about"](), "data": arguments.data, "size": arguments.size, "sizes": sizes._asdict()}
    if {"agreement", "schedules"} & {*arguments.part}:
        task = subset(data.load(arguments.data, size=arguments.size, data_dir=arguments.data_dir), sizes)
        if "agreement" in arguments.part:
            record["agreement"] = agreement(task, sizes)
        if "schedules" in arguments.part:
            record["schedules"] = schedules(task, sizes, arguments.out.with_suffix(".jsonl"))
            plot_schedules(record["schedules"], sizes.num_steps, arguments.out.with_suffix(".schedules.png"))
    for part, measure in (("penalties", penalties), ("augmentation", augmentation)):
        if part in arguments.part:
            rows = measure(sizes)
            record[part] = {"summary": summarize(rows), "results": rows}
            plot_errors(rows, arguments.out.with_suffix(f".{part}.png"))
    _STANDARD["write"](record, arguments.out)


if __name__ == "__main__":
    main()
