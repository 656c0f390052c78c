"""Population based training of a convolutional net's learning rate and weight decay, beside fixed grids.

    python benchmarks/population.py [--data NAME] [--data-dir FOLDER] [--steps N] [--seeds N] [--out FILE] [--quick]

Twenty members (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846) begin at the points of a grid of five learning
rates and four weight decays, with the same weights, and train side by side by SGD with momentum 0.9. Twenty times in a
training the worst fifth copies the best fifth, and multiplies the two numbers by 0.8 or 1.2. `grid` is the same without
copying: each point stays as it is. `grid, cosine` lowers the rate of each point to zero by half a cosine. All three
cost the same.

Members are compared by the loss of a validation part, a fifth of the training examples. The table has the loss and the
accuracy, on the test part, of the member with the lowest validation loss at the end. Writes JSON and a PNG.
"""

import argparse
from collections.abc import Callable
import pathlib
import runpy
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

import meta_train
from meta_train import data
from meta_train import estimators
from meta_train.host import progress
from meta_train.outer import search
from meta_train.tasks.convolution import Conv2D
from meta_train.tasks.prediction import cross_entropy
from meta_train.training import engine
from meta_train.unroll import truncation

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
DECAYS = (1e-5, 1e-4, 1e-3, 1e-2)


def network(classes: int) -> hk.Transformed:
    """Two convolutions and a linear layer."""

    def apply(x):
        for channels in (8, 16):
            x = jax.nn.relu(Conv2D(channels, stride=2)(x))
        return hk.Linear(classes)(hk.Flatten()(x))

    return hk.without_apply_rng(hk.transform(apply))


def split(dataset: data.Dataset, limit: int | None) -> data.Dataset:
    """The training part in two, where the fifth becomes the held-out part; of at most so many examples."""
    order = np.random.default_rng(0).permutation(len(dataset.train_x))[:limit]
    held, seen = np.split(order, [len(order) // 5])
    return data.Dataset(dataset.train_x[seen], dataset.train_y[seen], dataset.train_x[held], dataset.train_y[held])


def problem(model: hk.Transformed, dataset: data.Dataset, batch_size: int = 64) -> meta_train.Problem:
    """The training of a member: minibatches, and the whole validation part to be judged by."""
    mean = lambda params, x, y: jnp.mean(cross_entropy(model.apply(params, x), y))

    def loss(params, key, data):
        rows = jax.random.randint(key, (batch_size,), 0, len(data.train_x))
        return mean(params, data.train_x[rows], data.train_y[rows])

    validate = lambda params, key, data: mean(params, data.test_x, data.test_y)
    return search.network_training(loss, validate, dataset, name="validation")


def contenders(num_steps: int) -> dict[str, search.SearchStrategy]:
    """What is compared, by name."""
    grid = [jnp.array(axis, jnp.float32).ravel() for axis in np.meshgrid(RATES, DECAYS)]

    def strategy(interval: int, schedule: Callable[[Any], Any]) -> search.SearchStrategy:
        def make(rate, decay):
            decayed = optax.add_decayed_weights(decay)
            return optax.chain(decayed, optax.trace(0.9), optax.scale_by_learning_rate(lambda t: rate * schedule(t)))

        point = lambda index: {"rate": grid[0][index], "decay": grid[1][index]}
        return search.pbt(
            search.by_own_hyperparameters(make),
            num_candidates=len(RATES) * len(DECAYS),
            interval=interval,
            explore=search.scale_hyperparameters,
            vary=lambda key, index, theta: theta._replace(hyperparameters=point(index)),
        )

    constant = lambda t: 1.0
    never = num_steps + 1
    return {
        "pbt": strategy(max(1, num_steps // 20), constant),
        "grid": strategy(never, constant),
        "grid, cosine": strategy(never, optax.cosine_decay_schedule(1.0, num_steps)),
    }


def train(dataset: data.Dataset, strategy: search.SearchStrategy, num_steps: int, seed: int, limit: int | None):
    """The best member, its losses and accuracy, and the lowest validation loss after each step."""
    model = network(data.num_classes(dataset))
    params = model.init(jax.random.key(seed), np.zeros((1, *dataset.train_x.shape[1:]), np.float32))
    theta = search.Trainee(params, {"rate": jnp.float32(0), "decay": jnp.float32(0)})
    estimator = estimators.truncated_backprop(
        problem(model, split(dataset, limit)), num_particles=1, unroll_length=1, horizon=truncation.constant(1)
    )
    result = meta_train.fit(
        estimator,
        theta,
        strategy,
        num_steps=num_steps,
        seed=seed,
        steps_per_dispatch=min(50, num_steps),
        progress=False,
        devices=jax.devices()[:1],
    )
    logits = model.apply(result.theta.params, dataset.test_x)
    lowest = [min(x for x in record["outer/member_loss"] if x is not None) for record in result.metrics]
    return {
        "validation_loss": lowest[-1],
        "test_loss": float(jnp.mean(cross_entropy(logits, jnp.asarray(dataset.test_y)))),
        "test_accuracy": float(np.mean(np.argmax(logits, axis=-1) == dataset.test_y)),
        "final": {name: float(x) for name, x in result.theta.hyperparameters.items()},
        "lowest_validation_loss": lowest,
    }


def draw(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """The lowest validation loss in the population over the steps, a line for each run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.add_subplot()
    names = list(dict.fromkeys(row["search"] for row in rows))
    for row in rows:
        label = row["search"] if row["seed"] == 0 else None
        panel.plot(row["lowest_validation_loss"], color=f"C{names.index(row['search'])}", linewidth=0.8, label=label)
    panel.set(xlabel="step", ylabel="lowest validation loss of 20 members", yscale="log")
    panel.legend()
    figure.savefig(path, dpi=110)
    print(f"Wrote {path}")


def main() -> None:
    """Trains all populations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a data set of images (default: %(default)s)")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--size", type=int, help="height and width to which images are reduced")
    parser.add_argument("--limit", type=int, help="use so many training examples (default: all)")
    parser.add_argument("--steps", type=int, default=1000, help="of each member (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/population.json"))
    parser.add_argument("--quick", action="store_true", help="one seed, few steps: a smoke test, not a measurement")
    arguments = parser.parse_args()
    engine.cache_compilations()
    dataset = data.load(arguments.data, data_dir=arguments.data_dir, size=arguments.size)
    if not isinstance(dataset, data.Dataset) or dataset.train_x.ndim != 4:
        parser.error(f"this needs images, and {arguments.data} has none.")
    steps, seeds = (20, 1) if arguments.quick else (arguments.steps, arguments.seeds)
    jobs = [(seed, name, strategy) for seed in range(seeds) for name, strategy in contenders(steps).items()]
    rows = []
    for seed, name, strategy in progress.over(jobs, unit="population"):
        rows.append({"search": name, "seed": seed, **train(dataset, strategy, steps, seed, arguments.limit)})
    settings = {"data": arguments.data, "size": arguments.size, "limit": arguments.limit, "steps": steps}
    _STANDARD["write"]({**_STANDARD["about"](), **settings, "results": rows}, arguments.out)
    print(f"{'search':14} {'seed':>4} {'validation loss':>16} {'test loss':>10} {'accuracy':>9}  final settings")
    for row in rows:
        measured = f"{row['validation_loss']:16.4f} {row['test_loss']:10.4f} {row['test_accuracy']:9.4f}"
        print(f"{row['search']:14} {row['seed']:4} {measured}  {row['final']}")
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
