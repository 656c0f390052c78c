"""The hand-designed optimizers with which learned ones are compared.

Adam: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
AdamW: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
Prodigy: Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101
Schedule-Free: Defazio et al. 2024, https://arxiv.org/abs/2405.15682
D-Adaptation: Defazio and Mishchenko 2023, https://arxiv.org/abs/2301.07733
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from learned_optim import nearest
from meta_train.evaluation.lanes import JudgedParamsFn
from meta_train.evaluation.lanes import MakeOptimizerFn

# Three a decade. It goes beyond 1, because small convex tasks want such rates.
LEARNING_RATES = tuple(float(f"{10 ** (k / 3):.2g}") for k in range(-15, 4))


class Baseline(NamedTuple):
    """A hand-designed optimizer.

    Fields:
      name: what to call it in tables.
      make: `(learning_rate, num_steps) -> optax transformation`; both may be traced. Baselines that are not tuned
        ignore the rate.
      tuned: whether the learning rate is chosen for each task, from `LEARNING_RATES`.
      scheduled: whether num_steps matters; otherwise a short run is the beginning of a longer one.
      judged: `(state, params) -> params` whose losses are reported; None for the parameters themselves.
    """

    name: str
    make: MakeOptimizerFn
    tuned: bool
    scheduled: bool = False
    judged: JudgedParamsFn | None = None


def _cosine(learning_rate, num_steps):
    """From the rate to zero; unlike optax's, for a traced rate."""

    def schedule(count):
        progress = jnp.minimum(count.astype(jnp.float32) / num_steps, 1.0)
        return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))

    return schedule


BASELINES = {
    "adam": Baseline("Adam (tuned)", lambda rate, num_steps: optax.adam(rate), tuned=True),
    "adamw-cosine": Baseline(
        "AdamW, cosine (tuned)",
        lambda rate, num_steps: optax.adamw(_cosine(rate, num_steps)),
        tuned=True,
        scheduled=True,
    ),
    "momentum": Baseline("SGD, momentum .9 (tuned)", lambda rate, num_steps: optax.sgd(rate, momentum=0.9), tuned=True),
    "adam-1e-3": Baseline("Adam 1e-3", lambda rate, num_steps: optax.adam(1e-3), tuned=False),
    "prodigy": Baseline("Prodigy", lambda rate, num_steps: optax.contrib.prodigy(), tuned=False),
    "schedule-free": Baseline(
        "Schedule-Free AdamW",
        lambda rate, num_steps: optax.contrib.schedule_free_adamw(),
        tuned=False,
        judged=optax.contrib.schedule_free_eval_params,
    ),
    "d-adaptation": Baseline("D-Adaptation", lambda rate, num_steps: optax.contrib.dadapt_adamw(), tuned=False),
}
"""The baselines by name. Each has the defaults of optax except for what its name says."""


def check(names: Iterable[str]) -> None:
    """Raises a ValueError that lists the baselines, unless all names are keys of `BASELINES`.

    Example:
      >>> check(["adam", "prodigy"])
    """
    for name in names:
        if name not in BASELINES:
            hint = nearest.hint(name, BASELINES)
            raise ValueError(f"there is no baseline {name!r}. {hint}Choose from {', '.join(BASELINES)}.")
