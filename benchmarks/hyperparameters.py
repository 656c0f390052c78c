"""Hyperparameters by hypergradients: schedules of a whole training.

- `agreement`: the hypergradient of SGD's schedules (rate, momentum, weight decay) by forward mode, reversible learning
  and full backpropagation, in float64: how far apart they are, seconds, and temporary memory as XLA counts it for
  horizons up to 10,000 steps. A perceptron on pictures.
- `schedules`: on the same problem, 1,000 examples to train on and 1,000 to validate: a grid of 100 constant settings,
  the same grid with a cosine on the rate, and schedules that are learned by hypergradients from the best constants on.
  All are judged on seeds that nothing was chosen by.

Writes JSON, and a plot of the schedules. `penalties.py` measures as many hyperparameters as weights.

    python benchmarks/hyperparameters.py [--data mnist --size 14 --data-dir FOLDER] [--part NAME ...] [--out FILE]
"""

import argparse
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
from meta_train.evaluation import lanes
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine
from meta_train.tuning import descent
from meta_train.tuning import grid
from meta_train.tuning.scheduled_sgd import scheduled_sgd

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
PARTS = ("agreement", "schedules")


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
    task = subset(data.load(arguments.data, size=arguments.size, data_dir=arguments.data_dir), sizes)
    if "agreement" in arguments.part:
        record["agreement"] = agreement(task, sizes)
    if "schedules" in arguments.part:
        record["schedules"] = schedules(task, sizes, arguments.out.with_suffix(".jsonl"))
        plot_schedules(record["schedules"], sizes.num_steps, arguments.out.with_suffix(".schedules.png"))
    _STANDARD["write"](record, arguments.out)


if __name__ == "__main__":
    main()
