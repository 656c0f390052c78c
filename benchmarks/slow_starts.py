"""Programs in which an optimizer may start slowly: noisy gradients, and parameters that are pulled back.

Prodigy's estimate of the distance grows while parameters move along their gradients, and with it the steps of
`prodigy-muon-schedule-v1`. The default lengthens the steps of a tensor while a step back to its initial value would
raise the loss. Three programs hold that back:

- `dp-sgd`: gradients of examples are clipped and noise is added (`optax.contrib.differentially_private_aggregate`, clip
  1, noise 1.1); a convolutional net, batches of 256, 40 steps. Own optimizer: SGD at .25.
- `lookahead`: every five steps parameters go back to a tenth of their way (`optax.lookahead`); the same net, 64 steps.
  Own optimizer: Adam at 2e-3.
- `rnn`: a GRU of 16 units tells which way spirals turn, batches of 32, 200 steps. Own optimizer: Adam at 3e-3. Its loss
  takes log(1 - p) of a probability, as programs do, and so is NaN from logits of 17 on, where p is 1 in float32. The
  case `rnn, stable loss` computes it from the logit.

Each runs with its own optimizer and with a released one, with and without `num_steps`. The measure of
the first two is the accuracy on held-out digits; of the others, the training loss over the last tenth of the steps, and
the number of seeds that ended in NaN. Writes JSON and prints a table.

    python benchmarks/slow_starts.py [NAME] [--data mnist --data-dir FOLDER] [--program NAME …] [--out FILE] [--quick]
"""

import argparse
from collections.abc import Callable
import pathlib
import runpy
from typing import Any
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import data
from meta_train.cli import named_optimizer
from meta_train.host import progress
from meta_train.tasks.convolution import Conv2D
from meta_train.training import engine

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


class Program(NamedTuple):
    """A training program that takes an optimizer."""

    num_steps: int
    own: optax.GradientTransformation
    measure: str  # what `run` gives
    run: Callable[[optax.GradientTransformation, jax.Array, int], jax.Array]  # (tx, key, num_steps) -> float32[]


def _pooled(x: jax.Array) -> jax.Array:
    """`hk.max_pool(x, (2, 2, 1), 1, "SAME")`, whose derivative XLA runs slowly on CPUs."""
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
    x = jnp.maximum(x[:, 1:], x[:, :-1])
    return jnp.maximum(x[:, :, 1:], x[:, :, :-1])


def _digits_network() -> hk.Transformed:
    def network(x):
        x = _pooled(jax.nn.relu(Conv2D(16, kernel_size=8, stride=2)(x)))
        x = _pooled(jax.nn.relu(Conv2D(32, kernel_size=4, stride=2)(x)))
        return hk.Linear(10)(jax.nn.relu(hk.Linear(32)(hk.Flatten()(x))))

    return hk.without_apply_rng(hk.transform(network))


def digits(dataset: data.Dataset, batch_size: int, private: bool) -> Callable[..., jax.Array]:
    """The program of `dp-sgd`, or, with gradients of whole batches and lookahead, that of `lookahead`."""
    network = _digits_network()
    train_x, train_y, test_x, test_y = (jnp.asarray(array) for array in dataset)

    def loss(params, x, y):
        return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(network.apply(params, x), y))

    def run(tx, key, num_steps):
        init_key, step_key = jax.random.split(key)
        params = network.init(init_key, train_x[:1])
        if private:
            noisy = optax.contrib.differentially_private_aggregate(l2_norm_clip=1.0, noise_multiplier=1.1, key=key)
            tx = optax.chain(noisy, tx)
        else:
            tx = optax.lookahead(tx, sync_period=5, slow_step_size=0.1)
            params = optax.LookaheadParams.init_synced(params)

        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (batch_size,), 0, len(train_x))
            x, y = train_x[chosen], train_y[chosen]
            if private:
                grads = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, x[:, None], y[:, None])
            else:
                grads = jax.grad(loss)(params.fast, x, y)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(step_key, num_steps))
        final: Any = params  # a LookaheadParams unless private
        logits = network.apply(final if private else final.slow, test_x)
        return jnp.mean((jnp.argmax(logits, -1) == test_y).astype(jnp.float32))

    return run


def _spirals(key, count):
    """float32[count, 16, 2] and labels float32[count]: half of the spirals turn the other way."""
    time = jnp.linspace(0.0, 2 * np.pi, 16)
    angle = time + jax.random.uniform(key, (count, 1), maxval=2 * np.pi)
    label = (jnp.arange(count) < count // 2).astype(jnp.float32)
    turn = 1.0 - 2.0 * label[:, None]
    return jnp.stack([turn * jnp.sin(angle), jnp.cos(angle)], axis=-1) / (1.0 + time[:, None]), label


def spirals(stable: bool) -> Callable[..., jax.Array]:
    """The program of `rnn`."""

    def network(x):
        hidden, _ = hk.dynamic_unroll(hk.GRU(16), jnp.swapaxes(x, 0, 1), jnp.zeros((len(x), 16)))
        return hk.Linear(1)(hidden[-1])[:, 0]

    model = hk.without_apply_rng(hk.transform(network))

    def loss(params, x, y):
        logits = model.apply(params, x)
        if stable:
            return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(logits, y))
        probability = jax.nn.sigmoid(logits)
        return -jnp.mean(y * jnp.log(probability) + (1.0 - y) * jnp.log(1.0 - probability))

    def run(tx, key, num_steps):
        data_key, init_key, step_key = jax.random.split(key, 3)
        x, y = _spirals(data_key, 10_000)
        params = model.init(init_key, x[:1])

        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (32,), 0, len(x))
            value, grads = jax.value_and_grad(loss)(params, x[chosen], y[chosen])
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        _, losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(step_key, num_steps))
        return jnp.mean(losses[-max(1, num_steps // 10) :])

    return run


def programs(dataset: data.Dataset, batch_size: int) -> dict[str, Program]:
    """All of them, by name."""
    return {
        "dp-sgd": Program(40, optax.sgd(0.25), "accuracy", digits(dataset, batch_size, private=True)),
        "lookahead": Program(64, optax.adam(2e-3), "accuracy", digits(dataset, batch_size, private=False)),
        "rnn": Program(200, optax.adam(3e-3), "training loss", spirals(stable=False)),
        "rnn, stable loss": Program(200, optax.adam(3e-3), "training loss", spirals(stable=True)),
    }


def measure(program: Program, tx: optax.GradientTransformation, num_steps: int, num_seeds: int) -> dict[str, Any]:
    """What the program measures, for each seed, None where it is NaN, and the median of the others."""
    run = jax.jit(lambda seed: program.run(tx, jax.random.key(seed), num_steps))
    values = [float(run(seed)) for seed in range(num_seeds)]
    finite = [value for value in values if np.isfinite(value)]
    return {
        "measure": program.measure,
        "median": float(np.median(finite)) if finite else None,
        "by_seed": [value if np.isfinite(value) else None for value in values],
    }


def main() -> None:
    """Runs all programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="default", help="a released optimizer, a file, or a run's folder")
    parser.add_argument("--program", nargs="+", help="only these (default: all)")
    parser.add_argument("--data", default="digits", help="a data set of digits (default: %(default)s)")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/slow_starts.json"))
    parser.add_argument("--quick", action="store_true", help="two seeds, few steps: a smoke test, not a measurement")
    arguments = parser.parse_args()
    engine.cache_compilations()
    dataset = data.load(arguments.data, data_dir=arguments.data_dir)
    cases = programs(dataset, 32 if arguments.quick else 256)
    cases = {title: cases[title] for title in arguments.program or cases}
    rows = []
    for title, program in progress.over(cases.items(), unit="program"):
        steps = 4 if arguments.quick else program.num_steps
        make = named_optimizer.load(arguments.name, ())
        told, untold = make(steps), make(None)
        contenders = {"its own": program.own, f"{arguments.name}, num_steps": told, arguments.name: untold}
        for name, tx in contenders.items():
            found = measure(program, tx, steps, 2 if arguments.quick else 8)
            rows.append({"program": title, "optimizer": name, "steps": steps, **found})
    _STANDARD["write"]({**_STANDARD["about"](), "data": arguments.data, "results": rows}, arguments.out)
    print(f"{'program':20} {'optimizer':24} {'measure':14} {'median':>10} {'by seed'}")
    for row in rows:
        seeds = " ".join("NaN" if value is None else f"{value:.3g}" for value in row["by_seed"])
        print(f"{row['program']:20} {row['optimizer']:24} {row['measure']:14} {row['median']:10.4g} {seeds}")


if __name__ == "__main__":
    main()
