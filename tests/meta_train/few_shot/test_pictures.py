"""Episodes of pictures whose pixels tell the class, the example and the pose that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.data import ClassSplit
from meta_train.data import PictureClasses
from meta_train.few_shot import episodes

COUNTS = np.array([5, 4, 7, 6, 4, 7, 5, 6], np.int32)  # pictures of classes 0 … 7
NUM_EPISODES = 200


def _classes(numbers, dtype=np.uint8, width=3):
    """3×3 pictures. In the middle is the class, 10 + its number, in a corner and beside it a mark of how it lies."""
    counts = COUNTS[list(numbers)]
    pictures = np.zeros((len(counts), counts.max(), 3, width, 1), dtype)
    for rows, number, count in zip(pictures, numbers, counts, strict=True):
        rows[:count, 1, 1, 0] = 10 + number
        rows[:count, 0, 0, 0], rows[:count, 0, 1, 0] = 200, 100
        rows[:count, 2, 2, 0] = 1 + np.arange(count)  # the example
    return PictureClasses(pictures, counts, tuple(f"class {number}" for number in numbers))


SPLIT = ClassSplit("marked", _classes(range(5)), _classes((5, 6, 7)))


def _drawn(made, data):
    """Many episodes: pixels as whole numbers [episodes, ways * examples, 3, 3], and labels, support before query."""
    sample = jax.jit(jax.vmap(made.sample, (0, None)))
    support, query = sample(jax.random.split(jax.random.key(0), NUM_EPISODES), data)
    x = np.concatenate([support.inputs, query.inputs], axis=1)[..., 0]
    assert x.dtype == np.float32
    whole = np.round(255 * x).astype(int)
    np.testing.assert_allclose(whole / 255, x, rtol=1e-6)
    return whole, np.concatenate([support.targets, query.targets], axis=1)


def test_held_out_classes_are_never_drawn_in_training_and_no_others_when_held_out():
    made = episodes(SPLIT, ways=3, shots=1, queries=3)
    assert (made.name, made.num_outputs, made.input_shape, made.classifies) == (
        "marked-3-way-1-shot",
        3,
        (3, 3, 1),
        True,
    )
    for data, expected in ((made.train, range(5)), (made.test, (5, 6, 7))):
        x, _ = _drawn(made, data)
        assert set(x[:, :, 1, 1].ravel() - 10) == set(expected)


def test_classes_and_pictures_of_an_episode_are_all_different_and_equally_likely():
    made = episodes(SPLIT, ways=2, shots=1, queries=3)
    x, labels = _drawn(made, made.train)
    np.testing.assert_array_equal(labels, [[0, 1, 0, 0, 0, 1, 1, 1]] * NUM_EPISODES)
    classes, examples = x[:, :, 1, 1] - 10, x[:, :, 2, 2]
    for episode_classes, episode_examples, episode_labels in zip(classes, examples, labels, strict=True):
        of = [set(episode_classes[episode_labels == way]) for way in (0, 1)]
        assert len(of[0]) == len(of[1]) == 1 and of[0] != of[1]
        for way in (0, 1):
            drawn = episode_examples[episode_labels == way]
            assert len(set(drawn)) == 4
    # Each of 5 classes is in 2/5 of the episodes, its examples 1 … count alike, and no padding.
    for number, count in enumerate(COUNTS[:5]):
        here = examples[classes == number]
        assert abs(len(here) / 4 - 0.4 * NUM_EPISODES) < 4 * np.sqrt(NUM_EPISODES * 0.24)
        frequency = np.bincount(here, minlength=count + 1)
        assert frequency[0] == 0 and len(frequency) == count + 1
        assert abs(frequency[1:] - len(here) / count).max() < 5 * np.sqrt(len(here) / count)


def test_training_classes_are_turned_and_mirrored_as_wholes_and_held_out_ones_are_not():
    """A corner of 200 with 100 beside it tells the pose."""
    made = episodes(SPLIT, ways=2, shots=1, queries=3, rotations=True, flips=True)
    mark = np.array([[200, 100, 0], [0, 0, 0], [0, 0, 0]])
    poses = [np.rot90(np.fliplr(mark) if mirrored else mark, turns) for mirrored in (False, True) for turns in range(4)]
    seen = set()
    x, labels = _drawn(made, made.train)
    for pictures, of in zip(x, labels, strict=True):
        for way in (0, 1):
            rows = pictures[of == way]
            marks = np.where(rows >= 100, rows, 0)
            assert (marks == marks[0]).all()
            (pose,) = (number for number, pose in enumerate(poses) if (pose == marks[0]).all())
            seen.add(pose)
    assert seen == set(range(8))
    held_out, _ = _drawn(made, made.test)
    assert (held_out[:, :, 0, :2] == [200, 100]).all()
    turned, _ = _drawn(
        episodes(SPLIT, ways=2, shots=1, queries=1, rotations=True), made.train._replace(poses=np.array([1]))
    )
    np.testing.assert_array_equal(
        np.where(turned >= 100, turned, 0)[:, :, :, 0], np.tile([0, 100, 200], (*turned.shape[:2], 1))
    )


def test_pictures_of_floats_stay_as_they_are():
    train, test = (_classes(numbers, np.float32) for numbers in ((0, 1), (5, 6)))
    made = episodes(ClassSplit("floats", train, test), ways=2, shots=1, queries=1)
    support, _ = jax.jit(made.sample)(jax.random.key(0), made.train)
    assert set(np.asarray(support.inputs)[:, 1, 1, 0]) == {10.0, 11.0}


def test_the_loss_is_the_mean_cross_entropy():
    made = episodes(SPLIT, ways=2, queries=3)
    loss = made.loss(jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]])), jnp.array([1, 0]))
    np.testing.assert_allclose(loss, -(np.log(0.75) + np.log(0.5)) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        (SPLIT, {"ways": 4, "queries": 1}, "4 ways need as many classes, and the part 'test' of 'marked' has 3"),
        (SPLIT, {"ways": 2, "queries": 4}, r"need 5 pictures a class, and the part 'train' .* has 4 of 'class 1'"),
        (SPLIT, {"shots": 0}, "shots must be at least 1, got 0"),
        (
            ClassSplit("both", _classes((0, 1)), _classes((1, 2))),
            {"ways": 2, "queries": 1},
            "'both' has the class 'class 1' in both parts",
        ),
        (
            ClassSplit("wide", _classes((0, 1), width=4), _classes((2, 3))),
            {"ways": 2, "queries": 1},
            r"need pictures of one shape, got \(3, 4, 1\) and \(3, 3, 1\)",
        ),
        (
            ClassSplit("wide", _classes((0, 1), width=4), _classes((2, 3), width=4)),
            {"ways": 2, "queries": 1, "rotations": True},
            "rotations=True needs square pictures, got 3×4 pixels",
        ),
    ],
)
def test_refusals(split, arguments, message):
    with pytest.raises(ValueError, match=message):
        episodes(split, **arguments)


def test_pictures_that_are_not_square_can_be_mirrored():
    split = ClassSplit("wide", _classes((0, 1), width=4), _classes((2, 3), width=4))
    made = episodes(split, ways=2, queries=1, flips=True)
    x, _ = _drawn(made, made.train)
    assert set(x[:, :, 0, 0].ravel()) == {0, 200}
