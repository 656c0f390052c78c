"""Judges a few-shot method on held-out episodes, beside what it is compared with."""

from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from meta_train.cli import few_shot_pictures
from meta_train.cli import few_shot_rivals
from meta_train.cli.few_shot_data import Setting
from meta_train.few_shot import EvaluatedFn
from meta_train.few_shot import evaluate
from meta_train.few_shot import nearest_neighbor
from meta_train.host.counted import counted
from meta_train.recipes.few_shot import AdaptFn
from meta_train.recipes.few_shot import Learner

NUM_EPISODES = 600
_SCRATCH_STEPS = 50
_REGRESSION_STEPS = (1, 10)
_MANY_STEPS = 10  # more than most methods train with: does adaptation go on to help?
_DRAWN_WAVES = 3  # sinusoids in a picture
_FOR_A_LEARNED_TIME = ("comln",)  # methods whose `adapt` takes no other number of inner steps than 0


class Contender(NamedTuple):
    """Something that answers for query sets."""

    name: str
    inner_steps: int | None  # None: it makes no steps
    adapt: EvaluatedFn
    theta: Any


def trained(setting: Setting, learner: Learner, theta: Any) -> list[Contender]:
    """The trained method without adaptation, and after different numbers of inner steps, that of training included.

    Args:
      setting: what was learned.
      learner: the method.
      theta: what it learned.
    """
    numbers = {0, learner.num_steps}
    if learner.name not in _FOR_A_LEARNED_TIME:
        numbers |= {_MANY_STEPS} if setting.training.classifies else {*_REGRESSION_STEPS}
    return [Contender(learner.name, number, _bound(learner.adapt, number), theta) for number in sorted(numbers)]


def rivals(setting: Setting, learner: Learner, key: jax.Array, outer_steps: int) -> list[Contender]:
    """What the method is compared with; trains the one that is pretrained.

    Args:
      setting: what was learned, by what network.
      learner: the method; pretraining makes steps on as many episodes each.
      key: random key of pretraining.
      outer_steps: that the method made, and pretraining makes.
    """
    if setting.training.classifies:
        nearest = Contender("nearest neighbour, pixels", None, nearest_neighbor(setting.training.num_outputs), ())
        adapt = few_shot_rivals.from_scratch(setting.training, setting.network)
        return [nearest, Contender("from scratch", _SCRATCH_STEPS, _bound(adapt, _SCRATCH_STEPS), ())]
    adapt = few_shot_rivals.fine_tuning(setting.training, setting.network)
    made = few_shot_rivals.pretrained(
        setting.training,
        setting.network,
        key,
        num_steps=outer_steps,
        num_episodes=learner.estimator.num_particles,
        adaptation=_REGRESSION_STEPS,
    )
    return [Contender("pretrained on all tasks", n, _bound(adapt, n), tuned) for n, tuned in made.items()]


def judge(setting: Setting, contender: Contender, key: jax.Array) -> dict[str, Any]:
    """A row of the report: accuracy, or mean squared error, on `NUM_EPISODES` held-out episodes.

    Args:
      setting: what was learned.
      contender: who answers.
      key: random key of the episodes; equal keys draw equal episodes.

    Returns:
      A dict with `name`, `inner_steps`, `mean` and `half_width` of the score's 95 % interval, and `loss`.
    """
    found = evaluate(contender.adapt, contender.theta, setting.judged, key, NUM_EPISODES, progress=False)
    score = found.loss if found.accuracy is None else found.accuracy
    return {
        "name": contender.name,
        "inner_steps": contender.inner_steps,
        "mean": score.mean,
        "half_width": score.half_width,
        "loss": found.loss.mean,
    }


def draw(setting: Setting, found: Sequence[Contender], num_steps: int, key: jax.Array, path: pathlib.Path) -> None:
    """Draws held-out episodes with the answers: for pictures of the method as trained, for sinusoids of all.

    Args:
      setting: what was learned.
      found: what `trained` gave, and the rivals.
      num_steps: inner steps of the method in training.
      key: random key of the episodes, the first of those that `judge` draws with it.
      path: the PNG file.
    """
    sample = jax.jit(setting.judged.sample)
    keys = jax.random.split(key, NUM_EPISODES)[:_DRAWN_WAVES]
    pairs = [jax.random.split(key) for key in keys]  # as `evaluate` splits them: to draw the episode, and to adapt
    episodes = [jax.device_get(sample(draw_key, setting.judged.test)) for draw_key, _ in pairs]
    answer = lambda contender, number, inputs: np.asarray(
        jax.jit(contender.adapt)(contender.theta, pairs[number][1], episodes[number].support, inputs)
    )
    if setting.training.classifies:
        as_trained = next(each for each in found if each.inner_steps == num_steps)
        labels = answer(as_trained, 0, episodes[0].query.inputs).argmax(axis=-1)
        few_shot_pictures.classified(episodes[0], labels, path)
        return
    inputs = np.linspace(-5.0, 5.0, 201, dtype=np.float32)[:, None]
    curves = {
        f"{each.name}, {counted(each.inner_steps or 0, 'step')}": np.stack(
            [answer(each, number, inputs)[:, 0] for number in range(len(episodes))]
        )
        for each in found
    }
    few_shot_pictures.fitted(episodes, inputs[:, 0], curves, path)


def score_name(setting: Setting) -> str:
    """What `judge` measures."""
    return "accuracy" if setting.training.classifies else "mean squared error"


def table(rows: list[dict[str, Any]], score: str) -> str:
    """A text table of rows that `judge` made.

    Example:
      >>> print(table([{"name": "maml", "inner_steps": 5, "mean": 0.9, "half_width": 0.01}], "accuracy"))
      method  inner steps  accuracy
      maml              5  90.0 ± 1.0 %
    """
    percent = score == "accuracy"
    told = lambda row: (
        f"{100 * row['mean']:.1f} ± {100 * row['half_width']:.1f} %"
        if percent
        else f"{row['mean']:.3f} ± {row['half_width']:.3f}"
    )
    steps = lambda row: "–" if row["inner_steps"] is None else str(row["inner_steps"])
    cells = [("method", "inner steps", score), *((row["name"], steps(row), told(row)) for row in rows)]
    wide = max(len(name) for name, _, _ in cells)
    return "\n".join(f"{name:<{wide}}  {number:>11}  {text}" for name, number, text in cells)


def _bound(adapt: AdaptFn, num_steps: int) -> EvaluatedFn:
    return lambda theta, key, support, query_inputs, /: adapt(theta, key, support, query_inputs, num_steps)
