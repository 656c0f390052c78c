"""A distribution of perceptrons and of data to train them on, so broad that one compiled program serves as thousands
of tasks.

Tasks of different shapes need a program each, and an outer step averages over few. Here all have one shape, and masks
make them different: Metz et al. 2020 (https://arxiv.org/abs/2002.11887) show what many tasks are worth.
"""

import jax
import jax.numpy as jnp

from learned_optim import checks
from meta_train.tasks import broad_examples
from meta_train.tasks import masked_perceptron
from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.broad_draws import first
from meta_train.tasks.broad_examples import ExamplesDraw
from meta_train.tasks.broad_pool import Pool
from meta_train.tasks.broad_pool import pool as default_pool
from meta_train.tasks.broad_sources import NUM_CLASSES
from meta_train.tasks.broad_sources import NUM_INPUTS
from meta_train.tasks.masked_perceptron import NetworkDraw
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation

NUM_HELD_OUT = 256  # examples that `evaluate` looks at


def broad_perceptron(
    name: str = "broad-perceptron",
    pool: Pool | None = None,
    *,
    width: int = 64,
    max_depth: int = 3,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of training a perceptron on data, all of which each episode draws anew.

    The network: 1 to max_depth hidden layers; their widths from width/4 to width, equal in half of the episodes;
    activation relu, tanh, gelu, silu or sigmoid; layer normalization in 30 % of the episodes; standard deviation of the
    initial weights, relative to 1/√(inputs), ½ to 2 times that, each layer's own up to 1.4 times more or less, and that
    of the output layer .03 to 2.

    The data: one of the pool's data sets, rotated in two thirds of the episodes where that makes a difference. In 30 %
    only some inputs are shown, 8 or more; in 40 % their scales differ, by a ratio of up to 900; their overall scale is
    .3 to 3; in half of the episodes they are shifted by up to 1. The target is the class in 60 % (all classes or a part
    of them, in 30 % merged to fewer labels), and else one of infinitely many random functions of all inputs, or a
    table's number to predict. The loss is the cross-entropy in 70 %, and else the squared error. An episode sees 1 % to
    100 % of the examples, all in a quarter of the episodes. In 40 % of the episodes up to 40 % of the examples have the
    target of another one. Minibatches have 4 to batch_size examples, log-uniformly.

    What an optimizer sees: all arrays have their full shape, and are 0 outside the drawn network, in value and in
    gradient. Sums, norms, singular values and directions are those of the smaller network; means over a tensor's
    entries are smaller, and what is inferred from a tensor's shape is that of the full shape.

    Args:
      name: the task's name.
      pool: the data; by default what needs no files, see `broad_pool.pool`.
      width: units of a hidden layer, at most.
      max_depth: hidden layers, at most.
      batch_size: examples a step, at most. A step computes so many, and the rest has weight zero.
      variation: more scales of the initial parameters and of the loss.

    Returns:
      A `Task`. Its `loss` is in nats or mean squares, and `Task.loss_scale` tells what to divide by: the entropy of the
      labels or the variance of the targets, times the drawn factor. So the normalized loss is about 0 for the best
      constant output. `evaluate` gives the loss on 256 held-out examples with their true targets, in the same unit.

    Raises:
      ValueError: if width, max_depth or batch_size is below 1, or a range of variation is impossible.
      TypeError: if one of the three is not a whole number.

    Example:
      >>> task = broad_perceptron(width=8, max_depth=2)
      >>> config = task.sample(jax.random.key(0))
      >>> {layer: arrays["w"].shape for layer, arrays in task.init(jax.random.key(1), config).items()}
      {'layer_0': (64, 8), 'layer_1': (8, 8), 'layer_2': (8, 10)}
    """
    width = checks.whole_number("width", width, 1)
    max_depth = checks.whole_number("max_depth", max_depth, 1)
    batch_size = checks.whole_number("batch_size", batch_size, 1)
    varied.check(variation, has_data=False, has_targets=False)
    chosen = default_pool() if pool is None else pool
    sizes = (NUM_INPUTS, *(width,) * max_depth, NUM_CLASSES)

    def sample(key) -> tuple[ExamplesDraw, NetworkDraw]:
        data_key, network_key = jax.random.split(key)
        examples = broad_examples.sample(data_key, chosen, batch_size)
        return examples, masked_perceptron.sample(network_key, width, max_depth)

    def init(key, config):
        examples, network = config
        return masked_perceptron.init(key, network, examples.input_scale, examples.num_outputs, sizes)

    def loss(params, key, data, config):
        examples, network = config
        batch = broad_examples.minibatch(key, examples, data[0], batch_size)
        losses = broad_examples.loss(masked_perceptron.apply(params, batch.x, network), batch, examples)
        counted = first(batch_size, examples.batch)
        return jnp.sum(jnp.where(counted, losses, 0.0)) / examples.batch.astype(losses.dtype)

    def evaluate(params, key, data, config):
        del key
        examples, network = config
        batch = broad_examples.held_out(examples, data[1], NUM_HELD_OUT)
        losses = broad_examples.loss(masked_perceptron.apply(params, batch.x, network), batch, examples)
        return {"loss": jnp.mean(losses) / broad_examples.scale(examples)}

    task = Task(
        name,
        (chosen.train, chosen.test),
        sample,
        init,
        loss,
        evaluate,
        normalize=log_normalizer(1.0),
        loss_scale=lambda config: broad_examples.scale(config[0]),
    )
    return varied.vary_scales(task, variation)
