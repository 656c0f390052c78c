"""Elastic weight consolidation on permuted images, beside plain training and L2; settings found by Hyperband.

    python benchmarks/continual.py [--data NAME] [--size N] [--data-dir FOLDER] [--out FILE] [--quick]

Five tasks, one after another: the same images with pixels in another order in each (Kirkpatrick et al. 2016,
https://arxiv.org/abs/1612.00796). A perceptron with two hidden layers trains on each of them for some steps by SGD with
momentum 0.9, and sees none of them again. Every method gets the same search for its learning rate and, if it has one,
the weight of its penalty: the accuracy over the five tasks in the end, on a validation part of the training examples;
the budget of a trial is its steps on each task. Then other seeds (weights, permutations, minibatches) on the whole
training part, with the accuracy on the test part. Writes JSON and a PNG, and prints a table.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import runpy
from typing import Any
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import continual
from meta_train import data
from meta_train.host import progress
from meta_train.outer import search
from meta_train.training import engine

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
NUM_TASKS = 5
RATE = search.real(1e-3, 0.3, log=True)


class Method(NamedTuple):
    """What keeps the network from forgetting: how it weighs distances, and the settings to search."""

    importance: continual.ImportanceFn | None
    space: dict[str, search.Dimension]


def methods(apply: continual.ApplyFn) -> dict[str, Method]:
    """What is compared, by name. Weights are those beside the mean loss of a minibatch."""
    return {
        "plain": Method(None, {"rate": RATE}),
        "l2": Method(continual.even_importance, {"rate": RATE, "weight": search.real(1e-4, 10.0, log=True)}),
        "ewc": Method(continual.fisher_importance(apply), {"rate": RATE, "weight": search.real(0.1, 1e4, log=True)}),
    }


def network(hidden: int, classes: int) -> hk.Transformed:
    """The perceptron."""
    return hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP((hidden, hidden, classes))(x)))


def flat(dataset: data.Dataset, limit: int | None) -> data.Dataset:
    """The data set with images as vectors, and at most so many training examples, in a fixed order."""
    order = np.random.default_rng(0).permutation(len(dataset.train_x))[:limit]
    vectors = lambda x: x.reshape(len(x), -1)
    return data.Dataset(
        vectors(dataset.train_x[order]), dataset.train_y[order], vectors(dataset.test_x), dataset.test_y
    )


def validation(dataset: data.Dataset) -> data.Dataset:
    """The training part alone, a fifth of it as the held-out part."""
    held = len(dataset.train_x) // 5
    x, y = dataset.train_x, dataset.train_y
    return data.Dataset(x[held:], y[held:], x[:held], y[:held])


def trainer(model: hk.Transformed, method: Method, dataset: data.Dataset) -> Callable[[dict[str, Any], int, int], Any]:
    """`(config, num_steps, seed) -> accuracies float32[tasks, tasks]`, compiled once for all settings and lengths."""
    num_inputs = dataset.train_x.shape[1]

    @jax.jit
    def train(rate, weight, num_steps, key, orders, dataset):
        init_key, train_key = jax.random.split(key)
        return continual.train_in_turn(
            model.apply,
            model.init(init_key, jnp.zeros((1, num_inputs))),
            dataset,
            orders,
            optimizer=lambda rate: optax.sgd(rate, momentum=0.9),
            rate=rate,
            weight=weight,
            importance=method.importance,
            num_steps=num_steps,
            key=train_key,
        )

    def run(config, num_steps, seed):
        orders = continual.permutations(NUM_TASKS, num_inputs, seed=seed)
        settings = jnp.float32(config["rate"]), jnp.float32(config.get("weight", 0.0))
        return np.asarray(train(*settings, jnp.int32(num_steps), jax.random.key(seed), orders, dataset))

    return run


def compare(
    model: hk.Transformed, dataset: data.Dataset, names: Sequence[str], steps: int, num_brackets: int, seeds: int
) -> dict[str, Any]:
    """The search of each method, and its answer on the test part with other seeds."""
    record = {}
    held_out = validation(dataset)
    chosen = {name: method for name, method in methods(model.apply).items() if name in names}
    for name, method in progress.over(chosen.items(), unit="method"):
        run = trainer(model, method, held_out)
        strategy = search.hyperband(method.space, min_budget=max(1, steps // 9), max_budget=steps)
        evaluate = lambda config, budget, run=run: 1.0 - float(run(config, budget, 0)[-1].mean())
        result = search.minimize(strategy, evaluate, num_brackets=num_brackets)
        if result.best is None:
            raise ValueError(f"every trial of {name} failed")
        run = trainer(model, method, dataset)
        tables = np.stack([run(result.best.config, steps, seed) for seed in range(1, seeds + 1)])
        final = tables[:, -1].mean(axis=1)
        record[name] = {
            "config": result.best.config,
            "validation_accuracy": 1.0 - result.best.loss,
            "trials": len(result.trials),
            "test_accuracy": float(final.mean()),
            "test_accuracy_by_seed": final.tolist(),
            "accuracies": tables.mean(axis=0).tolist(),  # [after task, of task]
        }
    return record


def draw(record: dict[str, Any], path: pathlib.Path) -> None:
    """The mean accuracy on the tasks so far, after each task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.add_subplot()
    for name, row in record.items():
        accuracies = np.array(row["accuracies"])
        panel.plot(range(1, NUM_TASKS + 1), [accuracies[i, : i + 1].mean() for i in range(NUM_TASKS)], "o-", label=name)
    panel.set(xlabel="tasks so far", ylabel="mean accuracy on them", xticks=range(1, NUM_TASKS + 1))
    panel.legend()
    figure.savefig(path, dpi=110)
    print(f"Wrote {path}")


def main() -> None:
    """Compares the methods on a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["plain", "l2", "ewc"]
    parser.add_argument("--method", nargs="+", choices=names, default=names, metavar="NAME", help="(default: all)")
    parser.add_argument("--data", default="digits", help="a data set of images (default: %(default)s)")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--size", type=int, help="height and width to which images are reduced")
    parser.add_argument("--limit", type=int, help="use so many training examples (default: all)")
    parser.add_argument("--steps", type=int, default=540, help="on each task (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=100, help="units of a hidden layer (default: %(default)s)")
    parser.add_argument("--brackets", type=int, default=6, help="of a search; three cost eight trials of full length")
    parser.add_argument("--seeds", type=int, default=5, help="of the report (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/continual.json"))
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test, not a measurement")
    arguments = parser.parse_args()
    engine.cache_compilations()
    loaded = data.load(arguments.data, data_dir=arguments.data_dir, size=arguments.size)
    if not isinstance(loaded, data.Dataset) or loaded.train_x.ndim != 4:
        parser.error(f"this needs images, and {arguments.data} has none.")
    dataset = flat(loaded, arguments.limit)
    steps, hidden, brackets, seeds = (
        (27, 16, 1, 1) if arguments.quick else (arguments.steps, arguments.hidden, arguments.brackets, arguments.seeds)
    )
    results = compare(network(hidden, data.num_classes(dataset)), dataset, arguments.method, steps, brackets, seeds)
    settings = {name: getattr(arguments, name) for name in ("data", "size", "limit")}
    settings |= {"steps": steps, "hidden": hidden, "brackets": brackets, "seeds": seeds}
    _STANDARD["write"]({**_STANDARD["about"](), **settings, "results": results}, arguments.out)
    for name, row in results.items():
        print(f"{name:6} accuracy over {NUM_TASKS} tasks {row['test_accuracy']:.4f}  {row['config']}")
    draw(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
