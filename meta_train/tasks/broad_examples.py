"""What an episode of a broad task draws of a pool's data, and its minibatches.

Nothing of the data is copied for an episode: a few numbers and short vectors say which rows it sees and how, and every
step reads rows of the shared arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks.broad_draws import first
from meta_train.tasks.broad_draws import integer
from meta_train.tasks.broad_draws import log_uniform
from meta_train.tasks.broad_pool import NUM_FUNCTIONS
from meta_train.tasks.broad_pool import Pool
from meta_train.tasks.broad_pool import Rows
from meta_train.tasks.broad_sources import NUM_CLASSES
from meta_train.tasks.broad_sources import NUM_INPUTS

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float

_PARTS = np.repeat(np.eye(3, dtype=np.float32), NUM_FUNCTIONS // 3, axis=1)  # linear, shallow, deep functions
# How many uniform numbers an episode's inputs and its functions take.
_INPUT_NUMBERS, _FUNCTION_NUMBERS = 6 + 3 * NUM_INPUTS, 1 + NUM_FUNCTIONS * NUM_CLASSES


class Classes(NamedTuple):
    """Where the rows of an episode's classes are, in the order that it drew them in."""

    offset: jax.Array  # int32[10], the first row of a class
    count: jax.Array  # int32[10], rows of a class
    seen: jax.Array  # int32[10], how many of them the episode sees


class ExamplesDraw(NamedTuple):
    """What an episode drew of the data."""

    train: Classes
    test: Classes
    num_classes: jax.Array  # int32[], 1 … 10 classes of the data set are there
    num_outputs: jax.Array  # int32[], 1 … 10 outputs of the network count
    squared: jax.Array  # bool[], whether the loss is the squared error; else the cross-entropy
    by_function: jax.Array  # bool[], whether a function of the row is the target; else its class, modulo num_outputs
    weights: jax.Array  # float32[25, 10], of a row's targets in each output of that function
    label_mean: jax.Array  # float32[10], frequency of each label; 0 where there is no output
    input_scale: jax.Array  # float32[64], factor on each input; 0 for those that are hidden or always 0
    input_shift: jax.Array  # float32[], added to every input before
    batch: jax.Array  # int32[], examples of a minibatch that count
    noise: jax.Array  # float32[], share of the examples that have the target of another one
    seed: jax.Array  # uint32[], of the choice of rows and of wrong targets


class Batch(NamedTuple):
    """Examples."""

    x: jax.Array  # float32[batch, 64]
    label: jax.Array  # int32[batch], 0 … num_outputs - 1
    target: jax.Array  # float32[batch, 10], of the squared error; 0 where there is no output


def sample(key: jax.Array, pool: Pool, batch_size: int) -> ExamplesDraw:
    """Draws what an episode sees of a pool; `broad_perceptron` lists the ranges."""
    facts = pool.facts
    numbers = jax.random.uniform(key, (13 + NUM_CLASSES + _INPUT_NUMBERS + _FUNCTION_NUMBERS,))
    u, numbers = iter(numbers[:13]), numbers[13:]
    version = jnp.searchsorted(jnp.asarray(np.cumsum(facts.chance)[:-1]), next(u))
    most, has_value = jnp.asarray(facts.num_classes)[version], jnp.asarray(facts.has_value)[version]
    squared = next(u) < 0.3
    by_function = (next(u) < 0.4) | (most == 1)
    by_value = (next(u) < 0.5) & by_function & squared & has_value
    # Classes: how many, which, and how many labels they are merged to.
    order = _order(numbers[:NUM_CLASSES], most)
    num_classes = jnp.where(next(u) < 0.5, integer(next(u), jnp.minimum(most, 2), most), most)
    num_labels = jnp.where(next(u) < 0.3, integer(next(u), jnp.minimum(num_classes, 2), num_classes), num_classes)
    num_results = jnp.where(by_value, 1, integer(next(u), jnp.where(squared, 1, 2), NUM_CLASSES))
    num_outputs = jnp.where(by_function, num_results, num_labels)
    share = jnp.minimum(1.0, log_uniform(next(u), 0.01, 4.0))
    input_scale, input_shift = _inputs(numbers[NUM_CLASSES:-_FUNCTION_NUMBERS], jnp.asarray(facts.num_inputs)[version])
    return ExamplesDraw(
        train=_classes(pool.train, version, order, share),
        test=_classes(pool.test, version, order, jnp.float32(1.0)),
        num_classes=num_classes,
        num_outputs=num_outputs,
        squared=squared,
        by_function=by_function,
        weights=_function(numbers[-_FUNCTION_NUMBERS:], facts, version, by_value),
        label_mean=_label_mean(num_classes, num_outputs),
        input_scale=input_scale,
        input_shift=input_shift,
        batch=jnp.round(log_uniform(next(u), min(4, batch_size), batch_size)).astype(jnp.int32),
        noise=jnp.maximum(0.0, next(u) - 0.6),
        seed=_hash((next(u) * 2.0**24).astype(jnp.uint32), jnp.uint32(0)),
    )


def minibatch(key: jax.Array, draw: ExamplesDraw, rows: Rows, size: int) -> Batch:
    """Draws training examples with replacement; some have the target of another example, the same at every step."""
    bits = jax.random.bits(key, (2, size), jnp.uint32)
    j, row = _row(draw.train, draw.num_classes, bits[0], bits[1], draw.seed)
    mixed = _hash(row.astype(jnp.uint32), draw.seed)
    wrong = (mixed >> 8).astype(jnp.float32) * 2.0**-24 < draw.noise
    first, second = _hash(mixed, draw.seed), _hash(mixed, ~draw.seed)
    other_j, other = _row(draw.train, draw.num_classes, first, second, draw.seed)
    return _batch(draw, rows, row, jnp.where(wrong, other_j, j), jnp.where(wrong, other, row))


def held_out(draw: ExamplesDraw, rows: Rows, size: int) -> Batch:
    """The first held-out examples of each of the episode's classes, in turns, with their true targets."""
    number = jnp.arange(size, dtype=jnp.uint32)
    num_classes = draw.num_classes.astype(jnp.uint32)
    j, row = _row(draw.test, draw.num_classes, number, number // num_classes, jnp.uint32(0))
    return _batch(draw, rows, row, j, row)


def loss(outputs: Float[Array, "batch 10"], batch: Batch, draw: ExamplesDraw) -> Float[Array, " batch"]:
    """The loss of each example: cross-entropy in nats, or the mean squared error over the outputs that count."""
    counted = first(NUM_CLASSES, draw.num_outputs)
    squares = jnp.where(counted, jnp.square(outputs - batch.target), 0.0)
    logits = jnp.where(counted, outputs, -jnp.inf)
    of_label = jnp.sum(
        jnp.where(batch.label[:, None] == jnp.arange(NUM_CLASSES, dtype=jnp.int32), outputs, 0.0), axis=1
    )
    error = jnp.sum(squares, axis=1) / draw.num_outputs.astype(outputs.dtype)
    return jnp.where(draw.squared, error, jax.nn.logsumexp(logits, axis=1) - of_label)


def scale(draw: ExamplesDraw) -> Float[Array, ""]:
    """The loss of the best constant output: entropy of the labels, or variance of the targets, which is 1.

    The labels of a function are about equally frequent, so that their entropy is taken as that of equal frequencies.
    """
    p = draw.label_mean
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0))
    of_function = jnp.log(draw.num_outputs.astype(jnp.float32))
    return jnp.where(draw.squared, 1.0, jnp.where(draw.by_function, of_function, entropy))


def _ranks(numbers, available):
    """The rank of each place among the first available ones by its number in 0…1; later ones rank behind."""
    numbers = jnp.where(first(len(numbers), available), numbers, 2.0)
    place = jnp.arange(len(numbers), dtype=jnp.int32)
    before = (numbers[None, :] < numbers[:, None]) | ((numbers[None, :] == numbers[:, None]) & (place < place[:, None]))
    return jnp.sum(before, axis=1, dtype=jnp.int32)  # sorts compile slowly


def _order(numbers, available):
    """A random order of the first available places, then the others."""
    place = jnp.arange(len(numbers), dtype=jnp.int32)
    return jnp.sum(jnp.where(_ranks(numbers, available) == place[:, None], place, 0), axis=1, dtype=jnp.int32)


def _classes(rows, version, order, share):
    offset, count = jnp.asarray(rows.offset)[version][order], jnp.asarray(rows.count)[version][order]
    seen = jnp.ceil(share * count.astype(jnp.float32)).astype(jnp.int32)
    return Classes(offset, count, jnp.clip(seen, 1, count))


def _function(numbers, facts, version, by_value):
    """Weights of a random function of one kind or of all, whose outputs have mean 0 and variance 1 on all rows."""
    kind = integer(numbers[0], 0, 3)
    # Uniform numbers are as good as normally distributed ones: outputs are sums of many.
    drawn = 2.0 * numbers[1:].reshape(NUM_FUNCTIONS, NUM_CLASSES) - 1.0
    parts = jnp.concatenate([jnp.asarray(_PARTS), jnp.ones((1, NUM_FUNCTIONS), jnp.float32)])
    weights = parts[kind][:, None] * drawn
    variance = jnp.sum(weights * (jnp.asarray(facts.moments)[version] @ weights), axis=0)
    weights = weights / jnp.sqrt(jnp.maximum(variance, 1e-6))
    value = jnp.zeros((1, NUM_CLASSES)).at[0, 0].set(1.0)
    of_function = jnp.concatenate([jnp.zeros((1, NUM_CLASSES)), weights])
    return jnp.where(by_value, jnp.concatenate([value, jnp.zeros_like(weights)]), of_function)


def _label_mean(num_classes, num_outputs):
    """How often each label occurs where the class in place j has the label j modulo num_outputs."""
    labels = jnp.arange(NUM_CLASSES, dtype=jnp.int32) % num_outputs
    there = first(NUM_CLASSES, num_classes).astype(jnp.float32)
    hits = (labels[:, None] == jnp.arange(NUM_CLASSES, dtype=jnp.int32)).astype(jnp.float32)
    return there @ hits / jnp.sum(there)


def _inputs(numbers, available):
    """Factors on the inputs and their shift: some hidden, some of unequal scale, some shifted, some flipped."""
    fewer, hidden, unequal, spread, scale, shift = numbers[:6]
    ranks, places, signs = numbers[6:].reshape(3, NUM_INPUTS)
    most = available.astype(jnp.float32)
    fewest = jnp.minimum(most, 8.0)
    number = jnp.where(fewer < 0.3, jnp.round(fewest * (most / fewest) ** hidden), most)
    shown = _ranks(ranks, available).astype(jnp.float32) < number
    largest = jnp.where(unequal < 0.4, np.log(30.0) * spread, 0.0)
    factors = jnp.where(shown, jnp.exp(largest * (2.0 * places - 1.0)), 0.0) * jnp.where(signs < 0.5, -1.0, 1.0)
    factors = factors / jnp.sqrt(jnp.sum(jnp.square(factors)) / number)  # mean square of 1
    return factors * log_uniform(scale, 0.3, 3.0), jnp.maximum(0.0, 2.0 * shift - 1.0)


def _row(classes, num_classes, first, second, seed):
    """The place of a class in the episode's order and a row of it, for two random numbers of each example."""
    j = (first % num_classes.astype(jnp.uint32)).astype(jnp.int32)
    seen, count = classes.seen[j].astype(jnp.uint32), classes.count[j].astype(jnp.uint32)
    start = seed % count  # rows of a class are in random order, so that those after any of them are a random subset
    return j, classes.offset[j] + ((start + second % seen) % count).astype(jnp.int32)


def _batch(draw, rows, row, target_j, target_row):
    x = (jnp.asarray(rows.x)[row] + draw.input_shift) * draw.input_scale
    function = jnp.asarray(rows.targets)[target_row] @ draw.weights
    outputs = jnp.arange(NUM_CLASSES, dtype=jnp.int32)
    counted = first(NUM_CLASSES, draw.num_outputs)
    by_class = target_j % draw.num_outputs
    label = jnp.where(draw.by_function, jnp.argmax(jnp.where(counted, function, -jnp.inf), axis=1), by_class)
    p = draw.label_mean
    there = (by_class[:, None] == outputs).astype(jnp.float32)
    standardized = (there - p) / jnp.sqrt(jnp.maximum(p * (1.0 - p), 1e-6))
    target = jnp.where(counted, jnp.where(draw.by_function, function, standardized), 0.0)
    return Batch(x, label.astype(jnp.int32), target)


def _hash(x, seed):
    """Numbers that look random, uint32 as x and seed are (the finalizer of MurmurHash3): cheaper than keys."""
    x = (x ^ seed) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
