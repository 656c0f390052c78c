"""Classification of a data set by a Haiku network; `mlp` and `softmax_regression` build on it."""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer


def classification(
    name: str,
    dataset: Dataset,
    network: Callable[[jax.Array], jax.Array],
    *,
    batch_size: int,
    init_scale: tuple[float, float],
) -> Task:
    """Builds the task of minimising the mean cross-entropy of a network's logits.

    Args:
      name: the task's name.
      dataset: training and held-out examples.
      network: `(x float32[batch, num_features]) -> logits float32[batch, num_classes]`, a function of Haiku modules.
      batch_size: examples a step, drawn with replacement.
      init_scale: lowest and highest factor on the initial parameters; an episode draws one, log-uniformly.

    Returns:
      A `Task` whose loss is in nats and is normalised by that of guessing. `evaluate` gives the loss and the accuracy
      on the held-out part.

    Raises:
      ValueError: if batch_size is below 1 or init_scale is not an increasing pair of positive numbers.
    """
    low, high = init_scale
    if batch_size < 1 or not 0 < low <= high:
        raise ValueError(
            f"batch_size must be at least 1 and init_scale a pair 0 < low <= high, got {batch_size} and {init_scale}."
        )
    model = hk.without_apply_rng(hk.transform(network))

    def sample(key):
        return jnp.exp(jax.random.uniform(key, (), jnp.float32, np.log(low), np.log(high))) if low < high else ()

    def init(key, config):
        params = model.init(key, jnp.zeros((1, dataset.train_x.shape[1]), jnp.float32))
        return jax.tree.map(lambda x: x * config, params) if low < high else params

    def loss(params, key, data, config):
        del config
        rows = jax.random.randint(key, (batch_size,), 0, data.train_x.shape[0])
        return _cross_entropy(model.apply(params, data.train_x[rows]), data.train_y[rows])

    def evaluate(params, key, data, config):
        del key, config
        logits = model.apply(params, data.test_x)
        correct = jnp.argmax(logits, axis=-1) == data.test_y
        return {"loss": _cross_entropy(logits, data.test_y), "accuracy": jnp.mean(correct.astype(jnp.float32))}

    return Task(name, dataset, sample, init, loss, evaluate, log_normalizer(np.log(num_classes(dataset))))


def _cross_entropy(logits, labels):
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen)
