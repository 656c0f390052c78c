"""Architectures as theta: cells found by gradients beside random cells, and controllers beside enumeration.

- `cells`: DARTS by first order, by second order with finite differences, and by implicit differentiation, each from
  several seeds. What each search chooses is trained from scratch, as are random cells of the same space, for the same
  number of steps on the same half of the examples. The other half, which the searches look at, is not trained on.
  Beside them, random search at the processor time of a search: the best by the validation half of as many random cells
  as can be trained in it, in expectation.
- `controller`: a space that is small enough to train all of its cells. Controllers look up validation errors in that
  table, and learn by REINFORCE and by evolution strategies which cells are good.

    python benchmarks/architecture.py [--data fashion_mnist --size 14 --data-dir FOLDER] [--part cells controller]
                                      [--out FILE] [--quick]

Writes JSON and a picture: the cell found, the accuracies, and how far controllers are from the best cell.
"""

import argparse
from collections.abc import Callable
import json
import math
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train import truncation
from meta_train.host import progress
from meta_train.outer import search
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine
from meta_train.unroll.inner_step import inner_step

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
DISPATCH = 25  # outer steps
WAYS = ("first order", "second order", "implicit")


class Sizes(NamedTuple):
    """How much is computed."""

    num_examples: int = 4_000  # half of them to train on, half for validation; at most all
    num_test: int = 3_000
    search_steps: int = 200
    train_steps: int = 300
    num_cells: int = 1
    operations: tuple[str, ...] = ("identity", "conv3x3", "conv1x1", "mean3x3", "max3x3")
    enumerated: tuple[str, ...] = ("conv3x3", "conv1x1", "max3x3")  # of the space that is enumerated
    num_nodes: int = 3
    channels: int = 8
    batch_size: int = 32
    num_random: int = 40
    seeds: int = 3  # searches of each kind
    train_seeds: int = 2  # trainings of each cell
    controller_evaluations: int = 2_400
    controller_seeds: int = 10


QUICK = Sizes(
    num_examples=40,
    num_test=20,
    operations=("identity", "conv1x1"),
    enumerated=("identity", "conv1x1"),
    search_steps=2,
    train_steps=2,
    num_nodes=1,
    channels=2,
    batch_size=4,
    num_random=3,
    seeds=1,
    train_seeds=1,
    controller_evaluations=16,
    controller_seeds=1,
)


class Trained(NamedTuple):
    """Cells trained from scratch."""

    validation: np.ndarray  # float[cells, seeds], accuracies
    test: np.ndarray  # float[cells, seeds]
    seconds: float  # of processor time for one training


def named(operations: tuple[str, ...]) -> list[problems.Operation]:
    """The operations of these names."""
    return [operation for operation in problems.picture_operations() if operation.name in operations]


def prepare(dataset: data.Dataset, sizes: Sizes) -> problems.TrustedData:
    """A random subset of the training part, in halves."""
    rows = np.random.default_rng(0).permutation(len(dataset.train_x))[: sizes.num_examples]
    subset = dataset._replace(train_x=dataset.train_x[rows], train_y=dataset.train_y[rows])
    return problems.trusted_data(subset, num_trusted=len(rows) // 2)


def train_all(network: problems.CellNetwork, halves: Any, held: Any, cells: np.ndarray, sizes: Sizes, bar) -> Trained:
    """Trains each cell from each seed by Adam; one program is compiled for all."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, sizes.train_steps))

    @jax.jit
    def train(key, cell, halves, held):
        init_key, step_key = jax.random.split(key)
        params = network.init(init_key, halves.train_x[:1])

        def step(carry, key):
            rows = jax.random.randint(key, (sizes.batch_size,), 0, len(halves.train_x))
            inputs, labels = halves.train_x[rows], halves.train_y[rows]
            loss = lambda params: jnp.mean(cross_entropy(network.apply(params, cell, inputs), labels))
            return inner_step(loss, optimizer, *carry)[:2], None

        keys = jax.random.split(step_key, sizes.train_steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        judged = jnp.concatenate([halves.trusted_x, held[0]])
        outputs = network.apply(params, cell, judged)
        correct = jnp.argmax(outputs, axis=-1) == jnp.concatenate([halves.trusted_y, held[1]])
        return jnp.mean(correct[: len(halves.trusted_y)] * 1.0), jnp.mean(correct[len(halves.trusted_y) :] * 1.0)

    halves, held = jax.tree.map(jnp.asarray, (halves, held))
    jax.block_until_ready(train(jax.random.key(0), jnp.asarray(cells[0]), halves, held))  # compiles
    found, began = [], time.process_time()
    for cell in cells:
        for seed in range(sizes.train_seeds):
            found.append([float(x) for x in train(jax.random.key(seed), jnp.asarray(cell), halves, held)])
            bar.update()
    seconds = (time.process_time() - began) / len(found)
    accuracies = np.array(found).reshape(len(cells), sizes.train_seeds, 2)
    return Trained(accuracies[..., 0], accuracies[..., 1], seconds)


def ways(bilevel: Any) -> dict[str, estimators.Estimator]:
    """The estimators of the architecture's gradient."""
    inner = optax.adam(0.01)
    neumann = estimators.linear_solvers.neumann(num_terms=2, step_size=0.05)
    return {
        "first order": estimators.darts(bilevel, inner_optimizer=inner, rate=0.0),
        "second order": estimators.darts(bilevel, inner_optimizer=inner, rate=0.05),
        "implicit": estimators.implicit(bilevel, inner_optimizer=inner, inner_steps=1, solver=neumann),
    }


def run_engine(
    estimator: Any,
    outer: Any,
    theta: Callable[[int], Any],
    num_steps: int,
    seeds: int,
    watch: Any = None,
    dispatch: int = DISPATCH,
) -> tuple[list[Any], float]:
    """Trains theta from each seed with one compiled engine: thetas, and processor seconds of one training."""
    built = engine.build([estimator], outer, steps_per_dispatch=dispatch, devices=jax.devices()[:1])
    found, seconds = [], []
    for seed in range(seeds):
        state = built.init(theta(seed), seed)
        built.ready()
        began = time.process_time()
        for done in range(0, num_steps, dispatch):
            state, _ = jax.block_until_ready(built.run(state, seed, min(dispatch, num_steps - done)))
            if watch is not None:
                watch(seed, min(done + dispatch, num_steps), state.theta)
        seconds.append(time.process_time() - began)
        found.append(jax.tree.map(np.asarray, state.theta))
    return found, float(np.median(seconds))


def best_of(trained: Trained, count: int) -> float:
    """The mean test accuracy of the best by validation of `count` cells drawn without replacement, exactly."""
    order = np.argsort(-trained.validation.mean(axis=1))
    total, count = len(order), min(max(1, count), len(order))
    chances = np.array([math.comb(total - 1 - i, count - 1) for i in range(total)]) / math.comb(total, count)
    return float(chances @ trained.test.mean(axis=1)[order])


def measure_cells(
    halves: problems.TrustedData, held: Any, classes: int, stride: int, sizes: Sizes, bar, way: Any
) -> dict:
    """Searches, and trains what they find and random cells."""
    space = problems.cell_space(named(sizes.operations), num_nodes=sizes.num_nodes)
    network = problems.cell_network(space, classes, channels=sizes.channels, num_cells=sizes.num_cells, stride=stride)
    bilevel = problems.architecture(halves, network, batch_size=sizes.batch_size)
    rows = []
    for name, estimator in ways(bilevel).items():
        if name not in way:
            continue
        start = lambda seed: np.asarray(problems.even_logits(space))
        thetas, seconds = run_engine(estimator, optax.adam(0.02, b1=0.5), start, sizes.search_steps, sizes.seeds)
        for seed, theta in enumerate(thetas):
            cell = problems.discretize(space, theta)
            rows.append({"way": name, "seed": seed, "choices": cell.tolist(), "logits": theta.tolist()})
            rows[-1] |= {"cell": problems.describe_cell(space, cell), "search_seconds": seconds}
            bar.update()
    found, drawn = np.array([row["choices"] for row in rows], np.int32), problems.random_cells(space, sizes.num_random)
    trained = train_all(network, halves, held, np.concatenate([found, drawn]), sizes, bar)
    random = Trained(trained.validation[len(rows) :], trained.test[len(rows) :], trained.seconds)
    others = random.test.mean(axis=1)
    for row, validation, test in zip(rows, trained.validation, trained.test, strict=False):
        row |= {"validation": validation.tolist(), "test": test.tolist(), "accuracy": float(test.mean())}
        row["percentile"] = 100 * float(np.mean(others < test.mean()) + np.mean(others == test.mean()) / 2)
        row["random_cells_in_its_time"] = max(1, round(row["search_seconds"] / trained.seconds))
        row["random_search"] = best_of(random, row["random_cells_in_its_time"])
    return {
        "found": rows,
        "random": {
            "cells": [problems.describe_cell(space, cell) for cell in drawn],
            "validation": random.validation.tolist(),
            "test": random.test.tolist(),
            "accuracy": others.tolist(),
            "percentile_90": float(np.percentile(others, 90)),
        },
        "train_seconds": trained.seconds,
        "edges": space.edges,
        "operations": [operation.name for operation in space.operations],
    }


def contenders(controllers: dict, table: jax.Array) -> dict[str, tuple]:
    """Estimator, outer optimizer, controller, and evaluations of a step.

    A generation of the elite ES is large: see what `search.elite_es` says of few elites.
    """
    lookup = lambda choices, key, table: table[tuple(choices)]
    made = {name: problems.sampled_choices(each, lookup, table, num_samples=8) for name, each in controllers.items()}
    single = problems.sampled_choices(controllers["softmaxes"], lookup, table)
    lasting, short = truncation.constant(100_000), truncation.constant(1)

    def reinforce(name: str) -> estimators.Estimator:
        return estimators.truncated_backprop(
            made[name], num_particles=1, unroll_length=1, horizon=lasting, stagger=False
        )

    return {
        "REINFORCE, softmaxes": (reinforce("softmaxes"), optax.adam(0.1), "softmaxes", 8),
        "REINFORCE, LSTM": (reinforce("LSTM"), optax.adam(0.02), "LSTM", 8),
        "ES, softmaxes": (
            estimators.full_es(single, num_particles=4, horizon=short, std=2.0),
            optax.adam(0.1),
            "softmaxes",
            8,
        ),
        "elite ES, softmaxes": (
            search.episodes(single, num_particles=1, horizon=short),
            search.elite_es(num_candidates=60, num_elites=12, std=3.0),
            "softmaxes",
            60,
        ),
    }


def measure_controllers(halves: Any, held: Any, classes: int, stride: int, sizes: Sizes, bar: Any, known: dict) -> dict:
    """Trains all cells of a small space, unless their errors are known, and lets controllers look for the best."""
    space = problems.cell_space(named(sizes.enumerated), num_nodes=min(2, sizes.num_nodes))
    places = [space.num_choices] * len(space.edges)
    controllers = {
        "softmaxes": problems.independent_controller(places),
        "LSTM": problems.lstm_controller(places),
    }
    cells = problems.every_choice(controllers["softmaxes"])
    if known:
        losses, test = np.array(known["errors"]), known["test_accuracy"]
    else:
        network = problems.cell_network(
            space, classes, channels=sizes.channels, num_cells=sizes.num_cells, stride=stride
        )
        trained = train_all(network, halves, held, cells, sizes._replace(train_seeds=1), bar)
        losses, test = 1 - trained.validation.mean(axis=1), trained.test.mean(axis=1).tolist()
    table = jnp.asarray(losses.reshape(places), jnp.float32)
    curves = {}
    for name, contender in contenders(controllers, table).items():
        curves[name] = search_cells(contender, controllers[contender[2]], cells, losses, sizes)
        bar.update()
    return {
        "errors": losses.tolist(),
        "cells": [problems.describe_cell(space, cell) for cell in cells],
        "best": problems.describe_cell(space, cells[losses.argmin()]),
        "test_accuracy": test,
        "controllers": [summarize(name, curve, losses) for name, curve in curves.items()],
    }


def search_cells(
    contender: tuple, controller: problems.Controller, cells: np.ndarray, losses: np.ndarray, sizes: Sizes
) -> list[dict]:
    """A controller's search from each seed: its expected loss, and that of its likeliest cell, on the way."""
    estimator, outer, _, evaluations = contender
    chances = jax.jit(lambda theta: jnp.exp(jax.vmap(lambda cell: controller.log_probability(theta, cell))(cells)))
    curve = []

    def watch(seed, step, theta):
        p = np.asarray(chances(theta), np.float64)
        row = {"seed": seed, "evaluations": evaluations * step, "expected": float(p @ losses / p.sum())}
        curve.append(row | {"likeliest": float(losses[p.argmax()])})

    start = lambda seed: jax.tree.map(np.asarray, controller.init(jax.random.key(seed)))
    steps = max(1, sizes.controller_evaluations // evaluations)
    run_engine(estimator, outer, start, steps, sizes.controller_seeds, watch, max(1, 8 * DISPATCH // evaluations))
    return curve


def summarize(name: str, curve: list[dict], losses: np.ndarray) -> dict:
    """How often a controller's likeliest cell is the best at the end, or nearly."""
    end = max(row["evaluations"] for row in curve)
    last = [row for row in curve if row["evaluations"] == end]
    likeliest = np.array([row["likeliest"] for row in last])
    return {
        "name": name,
        "finds_the_best": float(np.mean(likeliest == losses.min())),
        "in_the_best_three": float(np.mean(likeliest <= np.sort(losses)[min(2, len(losses) - 1)])),
        "regret": float(likeliest.mean() - losses.min()),
        "expected": float(np.mean([row["expected"] for row in last])),
        "curve": curve,
    }


def draw_cell(panel: Any, row: dict, cells: dict) -> None:
    """A cell as a graph, its nodes on an arc so that no edge hides another."""
    count = max(node for _, node in cells["edges"])
    places = [(i, 0.35 * ((-1) ** i) * (0 < i < count)) for i in range(count + 1)]
    for (source, node), choice in zip(cells["edges"], row["choices"], strict=True):
        if choice:
            bend = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={0.25 * (node - source - 1)}", "color": "0.4"}
            panel.annotate("", places[node], places[source], arrowprops=bend | {"shrinkA": 12, "shrinkB": 12})
            middle = np.mean([places[node], places[source]], axis=0) - (0, 0.16 * (node - source - 1))
            panel.text(*middle, cells["operations"][choice - 1], ha="center", fontsize=8, backgroundcolor="white")
    for i, place in enumerate(places):
        panel.text(*place, str(i), ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white"})
    panel.set(xlim=(-0.4, count + 0.4), ylim=(-1, 0.8), title=f"{row['way']}: {100 * row['accuracy']:.1f} %")
    panel.axis("off")


def plot(record: dict, path: pathlib.Path) -> None:
    """Draws the best cell found by validation, accuracies of all cells, and the controllers' curves, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = ["cell", "accuracies"] * ("cells" in record) + ["controller"] * ("controller" in record)
    figure = Figure(figsize=(4.6 * len(parts), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip(parts, np.ravel(figure.subplots(1, len(parts), squeeze=False)), strict=True))
    if "cells" in record:
        cells = record["cells"]
        draw_cell(panels["cell"], max(cells["found"], key=lambda row: np.mean(row["validation"])), cells)
        panel = panels["accuracies"]
        names = list(dict.fromkeys(row["way"] for row in cells["found"]))
        groups = [cells["random"]["accuracy"]]
        groups += [[row["accuracy"] for row in cells["found"] if row["way"] == name] for name in names]
        for i, values in enumerate(groups):
            panel.plot(np.linspace(-0.2, 0.2, len(values)) + i, 100 * np.sort(values), "o", markersize=4)
        panel.axhline(100 * cells["random"]["percentile_90"], color="0.6", linestyle="--", linewidth=1)
        panel.set_xticks(range(len(groups)), ["random", *names], fontsize=8)
        panel.set(title="each dot a cell; dashed: 90 % of random ones", ylabel="test accuracy, %")
    if "controller" in record:
        panel, best = panels["controller"], min(record["controller"]["errors"])
        for row in record["controller"]["controllers"]:
            steps = sorted({point["evaluations"] for point in row["curve"]})
            at = lambda step, row=row: [each["expected"] for each in row["curve"] if each["evaluations"] == step]
            panel.plot(steps, [100 * (np.mean(at(step)) - best) for step in steps], label=row["name"])
        panel.set(title="all cells of a small space", xlabel="evaluations", ylabel="expected error above the best, %")
        panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"Wrote {path}")


def report(record: dict) -> None:
    """Prints the tables."""
    if "cells" in record:
        random = record["cells"]["random"]
        middle, top = np.median(random["accuracy"]), max(random["accuracy"])
        print(f"random cells: median {100 * middle:.1f} %, best {100 * top:.1f} %")
        print(f"{'found by':14} {'seed':>4} {'test, %':>8} {'percentile':>10} {'random search, %':>16}  cell")
        for row in record["cells"]["found"]:
            print(
                f"{row['way']:14} {row['seed']:4} {100 * row['accuracy']:8.1f} {row['percentile']:10.0f} "
                f"{100 * row['random_search']:11.1f} ({row['random_cells_in_its_time']:2})  {row['cell']}"
            )
    for row in record.get("controller", {}).get("controllers", []):
        print(
            f"{row['name']:22} finds the best: {100 * row['finds_the_best']:.0f} %, one of the best three: "
            f"{100 * row['in_the_best_three']:.0f} %, error above the best: {100 * row['regret']:.2f} %"
        )


def main() -> None:
    """Measures, and writes the record and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", default="digits", help="a data set of pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, help="height and width to which pictures are reduced")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parts = ("cells", "controller")
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS), help="of the part cells (default: all)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/architecture.json"))
    parser.add_argument(
        "--record",
        type=pathlib.Path,
        help="a record of this script: what it holds of the parts that are not measured, and the errors of all cells "
        "that controllers look up, are taken from it",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    dataset = data.load(arguments.data, size=arguments.size, data_dir=arguments.data_dir)
    halves, held = prepare(dataset, sizes), (dataset.test_x[: sizes.num_test], dataset.test_y[: sizes.num_test])
    stride = 2 if dataset.train_x.shape[1] > 8 else 1
    known = json.loads(arguments.record.read_text(encoding="utf-8")) if arguments.record else {}
    about = {**_STANDARD["about"](), "data": arguments.data, "size": arguments.size, "sizes": sizes._asdict()}
    record, classes = {**known, **about}, data.num_classes(dataset)
    with progress.bar(None, unit="piece of work") as bar:
        if "cells" in arguments.part:
            record["cells"] = measure_cells(halves, held, classes, stride, sizes, bar, arguments.way)
        if "controller" in arguments.part:
            table = known.get("controller", {})
            record["controller"] = measure_controllers(halves, held, classes, stride, sizes, bar, table)
    _STANDARD["write"](record, arguments.out)
    report(record)
    plot(record, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
