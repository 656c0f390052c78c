"""Episodes of pictures: tell a few classes apart after a few examples of each.

Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080; Santoro et al. 2016,
"One-shot Learning with Memory-Augmented Neural Networks", https://arxiv.org/abs/1605.06065 (turned characters)
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.data.picture_classes import ClassSplit
from meta_train.few_shot.base import Batch
from meta_train.few_shot.base import Episode
from meta_train.few_shot.base import Episodes


class ClassPool(NamedTuple):
    """What episodes are drawn from; arguments of the compiled program."""

    pictures: Any  # uint8 or float32, [classes, most examples, height, width, channels]
    counts: Any  # int32[classes], examples of each class
    poses: Any  # int32[poses], those that classes may take: quarter turns, plus 4 if mirrored left to right before


def episodes(
    split: ClassSplit,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    *,
    rotations: bool = False,
    flips: bool = False,
) -> Episodes:
    """Builds the distribution of episodes that each tell `ways` classes apart.

    An episode's classes are all different, and so are its pictures. A class is labeled by its place in the episode.

    Args:
      split: classes to learn from and held-out ones, such as `data.digit_classes()` or `data.omniglot()`.
      ways: classes of an episode.
      shots: pictures of each class in the support set.
      queries: pictures of each class in the query set.
      rotations: whether a class of a training episode is turned by 0, 1, 2 or 3 quarters, all its pictures alike, so
        that four times as many classes are learned. Turns of one class never meet in an episode, for many characters
        look the same when turned. Held-out classes stay as they are.
      flips: whether a class of a training episode may be mirrored, likewise.

    Returns:
      An `Episodes` whose loss is the mean cross-entropy. Its data are a `ClassPool` for each part.

    Raises:
      ValueError: if a number is below 1, a part has too few classes, a class too few pictures, both parts have a class
        of one name or pictures of different shape, or pictures are to be turned that are not square.

    Example:
      >>> from meta_train.data import digit_classes
      >>> fives = episodes(digit_classes(), ways=5, shots=1, queries=15)
      >>> support, query = jax.jit(fives.sample)(jax.random.key(0), fives.test)
      >>> support.inputs.shape, query.inputs.shape, support.targets.tolist()
      ((5, 8, 8, 1), (75, 8, 8, 1), [0, 1, 2, 3, 4])
    """
    for name, number in (("ways", ways), ("shots", shots), ("queries", queries)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
    _check_split(split)
    for part, classes in (("train", split.train), ("test", split.test)):
        _check_classes(f"the part {part!r} of {split.name!r}", classes, ways, shots + queries)
    shape = split.train.pictures.shape[2:]
    if rotations and shape[0] != shape[1]:
        raise ValueError(f"rotations=True needs square pictures, got {shape[0]}×{shape[1]} pixels.")
    turns = np.arange(4 if rotations else 1, dtype=np.int32)
    poses = np.concatenate([turns, turns + 4]) if flips else turns

    def sample(key, data):
        pictures = _draw(key, data, ways, shots + queries, square=shape[0] == shape[1])
        labels = jnp.arange(ways, dtype=jnp.int32)
        batch = lambda x: Batch(x.reshape(-1, *shape), jnp.repeat(labels, x.shape[1]))
        return Episode(batch(pictures[:, :shots]), batch(pictures[:, shots:]))

    return Episodes(
        name=f"{split.name}-{ways}-way-{shots}-shot",
        train=ClassPool(split.train.pictures, split.train.counts, poses),
        test=ClassPool(split.test.pictures, split.test.counts, np.zeros(1, np.int32)),
        sample=sample,
        loss=lambda outputs, targets: optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean(),
        num_outputs=ways,
        input_shape=shape,
        classifies=True,
    )


def _draw(key, pool, ways, num_examples, square):
    """float32[ways, num_examples, height, width, channels], of different classes and without repetition."""
    class_key, example_key, pose_key = jax.random.split(key, 3)
    num_classes, most = pool.pictures.shape[:2]
    classes = jax.random.permutation(class_key, jnp.arange(num_classes, dtype=jnp.int32))[:ways]
    ranks = jax.random.uniform(example_key, (ways, most), jnp.float32)
    there = jnp.arange(most, dtype=jnp.int32) < jnp.asarray(pool.counts)[classes, None]
    examples = jnp.argsort(jnp.where(there, ranks, jnp.inf), axis=1)[:, :num_examples]
    pictures = jnp.asarray(pool.pictures)[classes[:, None], examples]
    poses = jnp.asarray(pool.poses)
    poses = poses[jax.random.randint(pose_key, (ways,), 0, len(poses), jnp.int32)]
    pictures = _pose(pictures, poses[:, None, None, None, None], square)
    return pictures if pictures.dtype == jnp.float32 else pictures.astype(jnp.float32) / 255


def _pose(pictures, poses, square):
    """Mirrors and turns pictures [ways, n, height, width, channels], each way by its pose."""
    turns = poses % 4
    pictures = jnp.where(poses >= 4, pictures[..., ::-1, :], pictures)
    if square:
        pictures = jnp.where(turns % 2 == 1, jnp.rot90(pictures, axes=(2, 3)), pictures)
    return jnp.where(turns >= 2, pictures[..., ::-1, ::-1, :], pictures)


def _check_split(split):
    both = sorted({*split.train.names} & {*split.test.names})
    if both:
        raise ValueError(
            f"{split.name!r} has the class {both[0]!r} in both parts, so that it would not be held out: leave it out "
            "of one."
        )
    train, test = (classes.pictures.shape[2:] for classes in (split.train, split.test))
    if train != test:
        raise ValueError(f"both parts of {split.name!r} need pictures of one shape, got {train} and {test}.")


def _check_classes(where, classes, ways, num_examples):
    if len(classes.names) < ways:
        raise ValueError(f"{ways} ways need as many classes, and {where} has {len(classes.names)}: ask for fewer ways.")
    fewest = int(np.argmin(classes.counts))
    if classes.counts[fewest] < num_examples:
        raise ValueError(
            f"shots and queries need {num_examples} pictures a class, and {where} has {classes.counts[fewest]} of "
            f"{classes.names[fewest]!r}: ask for fewer."
        )
