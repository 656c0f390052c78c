"""Synthetic data sets of a few examples a class: how well networks do that are trained on nothing else.

Two ways to make them: by matching gradients (Zhao et al. 2021) and by unrolled training with a learned rate (Wang et
al. 2018). Each begins with real examples, and `fit` trains it; each is made several times, from other examples. Then
fresh networks are trained from scratch on each set, on all of its examples at once: by SGD with momentum ("standard":
rate .01, momentum .9, 300 steps), and as the unrolled training did it (its learned rate, its number of steps, no
momentum). Beside them: the same on the real examples, and networks trained on the whole data set. Accuracies are held
out, over several sets and networks.

Writes JSON, and a PNG of the first sets: for each class its real, matched and unrolled examples.

    python benchmarks/synthetic_data.py [--data mnist --size 14 --data-dir FOLDER] [--per-class 1 10] [--sets 2]
        [--network perceptron | conv] [--steps N] [--out FILE] [--quick]
"""

import argparse
import pathlib
import runpy
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import fit
from meta_train import problems
from meta_train import truncation
from meta_train.host import progress
from meta_train.problems import Synthetic
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
_TIMED = ("matching", "unrolling")


class Sizes(NamedTuple):
    """How much is trained."""

    hidden_size: int = 64  # of the perceptron; of the convolutional net a quarter of it are its channels
    blocks: int = 2  # of the convolutional net
    matching_steps: int = 1_000
    matching_batch: int = 32  # real examples of a class in a match
    matching_inner: int = 10  # updates of the network after a match of several examples a class
    matching_rate: float = 0.01  # of Adam on the examples, decayed to 0
    unrolled_steps: int = 1_000
    unrolled_batch: int = 256
    unrolled_rate: float = 0.01  # of Adam on the examples and the logarithm of their rate, decayed to 0
    unroll_length: int = 40  # steps of the training that is unrolled
    whole_steps: int = 1_000  # minibatches of 128 on the whole set
    standard_steps: int = 300
    networks: int = 5  # fresh ones that judge a set
    sets: int = 2  # of each kind


CONV = Sizes(matching_steps=600, unrolled_steps=300, unroll_length=20)  # whose outer steps take longer
QUICK = Sizes(4, 1, 2, 4, 2, 0.1, 2, 8, 0.01, 2, 2, 2, 2, 2)


class Judge(NamedTuple):
    """Compiled functions that train fresh networks, and give float[networks] held-out accuracies."""

    synthetic: jax.stages.Wrapped  # (inputs, rate, momentum, num_steps)
    whole: jax.stages.Wrapped  # (rate, momentum, num_steps)


def standardized(dataset: data.Dataset) -> data.Dataset:
    """Inputs with mean 0 and standard deviation 1 over all pixels of the training part."""
    mean, std = dataset.train_x.mean(), dataset.train_x.std()
    return dataset._replace(train_x=(dataset.train_x - mean) / std, test_x=(dataset.test_x - mean) / std)


def make_network(name: str, classes: int, sizes: Sizes) -> few_shot.Network:
    """A perceptron with a hidden layer, or convolutions with instance normalization."""
    if name == "perceptron":
        return few_shot.perceptron(classes, (sizes.hidden_size,))
    return problems.instance_norm_network(classes, max(1, sizes.hidden_size // 4), sizes.blocks)


def match(dataset, network, start, sizes, seed):
    """By gradient matching, with a fresh network for each match of one example a class, as in the paper."""
    per_class = start.shape[1]
    problem = problems.gradient_matching(
        dataset,
        network,
        inner_optimizer=optax.sgd(0.01),
        inner_steps=0 if per_class == 1 else sizes.matching_inner,
        batch_size=sizes.matching_batch,
    )
    estimator = estimators.truncated_backprop(
        problem,
        num_particles=1,
        unroll_length=1,
        horizon=truncation.constant(1 if per_class == 1 else 10),
        stagger=False,
    )
    outer = optax.adam(optax.cosine_decay_schedule(sizes.matching_rate, sizes.matching_steps))
    return _fit(estimator, start, outer, sizes.matching_steps, seed, clip_norm=None)


def unroll(dataset, network, start, sizes, seed):
    """By unrolled training: the loss after the last step, with the rate learned beside the examples."""
    bilevel = problems.synthetic_training(dataset, network, batch_size=sizes.unrolled_batch)
    of_theta = lambda theta: optax.sgd(jnp.exp(theta.log_rate))
    problem = problems.unrolled(bilevel, of_theta, inner_steps=sizes.unroll_length)  # a step is the whole training
    estimator = estimators.truncated_backprop(
        problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1), stagger=False
    )
    outer = optax.adam(optax.cosine_decay_schedule(sizes.unrolled_rate, sizes.unrolled_steps))
    return _fit(estimator, Synthetic(start, jnp.log(0.1)), outer, sizes.unrolled_steps, seed, clip_norm=1.0)


def _fit(estimator, theta, outer, num_steps, seed, clip_norm):
    began = time.perf_counter()
    options = {"clip_norm": clip_norm, "steps_per_dispatch": 50, "progress": False}
    found = fit(estimator, theta, outer, num_steps=num_steps, seed=seed, **options)
    return found.theta, {"losses": [row["loss"] for row in found.metrics], "seconds": time.perf_counter() - began}


def make_judge(dataset: data.Dataset, network: few_shot.Network, sizes: Sizes) -> Judge:
    """Compiles the trainings from scratch."""
    train_x, train_y, test_x, test_y = (jnp.asarray(array) for array in dataset)

    def train(key, loss, rate, momentum, num_steps):
        init_key, step_key = jax.random.split(key)
        params = network.init(init_key, train_x[:1])

        def step(i, carry):
            params, velocity = carry
            gradient = jax.grad(loss)(params, jax.random.fold_in(step_key, i))
            velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
            return jax.tree.map(lambda w, v: w - rate * v, params, velocity), velocity

        params, _ = jax.lax.fori_loop(0, num_steps, step, (params, jax.tree.map(jnp.zeros_like, params)))
        hits = jnp.argmax(jax.lax.map(lambda x: network.apply(params, x[None])[0], test_x, batch_size=500), -1)
        return jnp.mean((hits == test_y).astype(jnp.float32))

    keys = jax.random.split(jax.random.key(1_000), sizes.networks)

    def synthetic(inputs, rate, momentum, num_steps):
        loss = lambda params, key: problems.synthetic_loss(network, params, inputs)
        return jax.lax.map(lambda key: train(key, loss, rate, momentum, num_steps), keys)

    def whole(rate, momentum, num_steps):
        def loss(params, key):
            rows = jax.random.randint(key, (128,), 0, len(train_x))
            return jnp.mean(cross_entropy(network.apply(params, train_x[rows]), train_y[rows]))

        return jax.lax.map(lambda key: train(key, loss, rate, momentum, num_steps), keys)

    return Judge(jax.jit(synthetic), jax.jit(whole))


def measure(dataset, network, judge, per_class, sizes, bar):
    """The sets of a size: their figures, and the examples of the first ones by kind."""
    accuracy = {kind: {"standard": [], "as unrolled": []} for kind in ("real", "matched", "unrolled")}
    row, first = {"per_class": per_class, "rates": [], "matching": [], "unrolling": []}, {}
    for seed in range(sizes.sets):
        start = problems.real_examples(jax.random.key(seed), dataset, per_class)
        matched, matching = match(dataset, network, start, sizes, seed)
        bar.update()
        unrolled, unrolling = unroll(dataset, network, start, sizes, seed)
        bar.update()
        rate = float(np.exp(unrolled.log_rate))
        for kind, inputs in {"real": start, "matched": matched, "unrolled": unrolled.inputs}.items():
            found = accuracy[kind]
            found["standard"] += judge.synthetic(inputs, 0.01, 0.9, sizes.standard_steps).tolist()
            found["as unrolled"] += judge.synthetic(inputs, rate, 0.0, sizes.unroll_length).tolist()
            first.setdefault(kind, np.asarray(inputs))
        for name, value in (("rates", rate), ("matching", matching), ("unrolling", unrolling)):
            row[name].append(value)
    figures = {kind: {how: _figures(each) for how, each in found.items()} for kind, found in accuracy.items()}
    return {**row, "accuracy": figures}, first


def _figures(accuracies):
    values = np.asarray(accuracies, np.float64)
    return {"mean": values.mean(), "std": values.std(), "each": values.tolist()}


def plot(sets: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Draws the examples: a row for each set and place, a column for each class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [(name, place) for name, inputs in sets.items() for place in range(min(3, inputs.shape[1]))]
    classes = len(next(iter(sets.values())))
    figure = Figure(figsize=(0.7 * classes + 1, 0.75 * len(rows)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), classes, squeeze=False)
    for (name, place), line in zip(rows, panels, strict=True):
        for label, panel in enumerate(line):
            panel.imshow(sets[name][label, place, :, :, 0], cmap="gray")
            panel.set(xticks=[], yticks=[])
        if place == 0:
            line[0].set_ylabel(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", default="digits", help="a data set of pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, help="height and width to which pictures are reduced")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--per-class", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--network", choices=("perceptron", "conv"), default="perceptron")
    parser.add_argument("--sets", type=int, help="how many sets of each kind, from other real examples")
    parser.add_argument("--steps", type=int, help="outer steps of both ways")
    parser.add_argument("--matching-rate", type=float, help="of Adam on the examples that are matched")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/synthetic_data.json"))
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else CONV if arguments.network == "conv" else Sizes()
    sizes = sizes._replace(sets=arguments.sets or sizes.sets)
    if arguments.steps:
        sizes = sizes._replace(matching_steps=arguments.steps, unrolled_steps=arguments.steps)
    if arguments.matching_rate:
        sizes = sizes._replace(matching_rate=arguments.matching_rate)
    dataset = standardized(data.load(arguments.data, size=arguments.size, gray=True, data_dir=arguments.data_dir))
    network = make_network(arguments.network, data.num_classes(dataset), sizes)
    judge = make_judge(dataset, network, sizes)
    rows = []
    with progress.bar(2 * sizes.sets * len(arguments.per_class), unit="set") as bar:
        for per_class in arguments.per_class:
            row, sets = measure(dataset, network, judge, per_class, sizes, bar)
            rows.append(row)
            plot(sets, arguments.out.with_name(f"{arguments.out.stem}_{per_class}.png"))
    whole = _figures(judge.whole(0.05, 0.9, sizes.whole_steps))
    about = {"data": arguments.data, "size": arguments.size, "network": arguments.network, "sizes": sizes._asdict()}
    _STANDARD["write"]({**_STANDARD["about"](), **about, "whole": whole, "results": rows}, arguments.out)
    print(f"{'a class':>7} {'set':9} {'standard, %':>14} {'as unrolled, %':>14}")
    for row in rows:
        for name, found in row["accuracy"].items():
            cells = [f"{100 * each['mean']:.1f} ± {100 * each['std']:.1f}" for each in found.values()]
            print(f"{row['per_class']:7} {name:9} {cells[0]:>14} {cells[1]:>14}")
        seconds = ", ".join(f"{name} {np.mean([each['seconds'] for each in row[name]]):.0f} s" for name in _TIMED)
        print(f"        a set: {seconds}; learned rates {', '.join(f'{rate:.2f}' for rate in row['rates'])}")
    print(f"{'all':>7} {'whole':9} {100 * whole['mean']:.1f} ± {100 * whole['std']:.1f}")


if __name__ == "__main__":
    main()
