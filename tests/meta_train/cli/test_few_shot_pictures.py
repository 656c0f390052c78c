"""The pictures of `meta-train few-shot` are drawn, whatever the numbers of ways, shots and steps."""

import matplotlib.image
import numpy as np

from meta_train.cli import few_shot_pictures
from meta_train.few_shot import Batch
from meta_train.few_shot import Episode


def colors(path):
    """The share of pixels that are clearly green, and clearly red."""
    red, green, blue = (matplotlib.image.imread(path)[..., i] for i in range(3))
    return np.mean((green > red + 0.2) & (green > blue + 0.2)), np.mean((red > green + 0.2) & (red > blue + 0.2))


def episode(ways, shots, queries):
    pictures = lambda n: np.random.RandomState(0).random_sample((ways * n, 8, 8, 1)).astype(np.float32)
    labels = lambda n: np.repeat(np.arange(ways, dtype=np.int32), n)
    return Episode(Batch(pictures(shots), labels(shots)), Batch(pictures(queries), labels(queries)))


def test_right_answers_are_green_and_wrong_ones_red(tmp_path):
    drawn = episode(ways=3, shots=2, queries=4)
    few_shot_pictures.classified(drawn, drawn.query.targets, tmp_path / "right.png")
    few_shot_pictures.classified(drawn, (drawn.query.targets + 1) % 3, tmp_path / "wrong.png")
    green, red = colors(tmp_path / "right.png")
    assert green > 0.005 and red == 0.0
    green, red = colors(tmp_path / "wrong.png")
    assert green == 0.0 and red > 0.005


def test_many_pictures_are_not_all_drawn(tmp_path):
    drawn = episode(ways=25, shots=7, queries=6)
    few_shot_pictures.classified(drawn, drawn.query.targets, tmp_path / "many.png")
    assert matplotlib.image.imread(tmp_path / "many.png").shape[1] < 2000


def test_curves_of_a_run_whose_loss_was_not_always_finite(tmp_path):
    metrics = [{"step": i + 1, "loss": np.nan if i == 3 else 1.0 / (i + 1)} for i in range(60)]
    rows = [
        {"name": "maml", "inner_steps": 0, "mean": 0.2, "half_width": 0.01},
        {"name": "maml", "inner_steps": 5, "mean": 0.9, "half_width": 0.01},
        {"name": "nearest", "inner_steps": None, "mean": 0.5, "half_width": 0.01},
        {"name": "scratch", "inner_steps": 50, "mean": np.nan, "half_width": np.nan},
    ]
    few_shot_pictures.curves(metrics, rows, "accuracy", tmp_path / "curves.png")
    assert np.ptp(matplotlib.image.imread(tmp_path / "curves.png")) > 0.5


def test_waves(tmp_path):
    inputs = np.linspace(-5, 5, 9, dtype=np.float32)
    batch = Batch(inputs[:, None], np.sin(inputs)[:, None])
    few_shot_pictures.fitted(
        [Episode(batch, batch)] * 2, inputs, {"maml, 1 step": np.zeros((2, 9))}, tmp_path / "a.png"
    )
    assert np.ptp(matplotlib.image.imread(tmp_path / "a.png")) > 0.5
