"""The hand-designed optimizers with which learned ones are compared.

Adam: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
AdamW: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
Prodigy: Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101
Schedule-Free: Defazio et al. 2024, https://arxiv.org/abs/2405.15682
D-Adaptation: Defazio and Mishchenko 2023, https://arxiv.org/abs/2301.07733
Muon: Jordan 2024, https://kellerjordan.github.io/posts/muon; with steps as long as AdamW's: Liu et al. 2025,
https://arxiv.org/abs/2502.16982
AdEMAMix: Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137
Lion: Chen et al. 2023, https://arxiv.org/abs/2302.06675
SOAP: see `soap`
"""

from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_optim import nearest
from meta_train.evaluation.lanes import JudgedParamsFn
from meta_train.evaluation.lanes import MakeOptimizerFn
from meta_train.evaluation.soap import soap
from meta_train.evaluation.trials import NUM_TRIALS
from meta_train.evaluation.trials import Hyperparameters

# Three a decade. It goes beyond 1, because small convex tasks want such rates.
LEARNING_RATES = tuple(float(f"{10 ** (k / 3):.2g}") for k in range(-15, 4))
# For the suite "large": where AdamW and Muon have their best rates on such models.
LARGE_LEARNING_RATES = LEARNING_RATES[3:13]


class Baseline(NamedTuple):
    """A hand-designed optimizer.

    Fields:
      name: what to call it in tables.
      make: `(learning_rate, num_steps) -> optax transformation`; both may be traced. Baselines that are not tuned
        ignore the rate. Those with trials get `Hyperparameters` in its place.
      tuned: whether it is tuned for each task, by `LEARNING_RATES` or by trials.
      scheduled: whether num_steps matters; otherwise a short run is the beginning of a longer one.
      judged: `(state, params) -> params` whose losses are reported; None for the parameters themselves.
      by_trials: whether it is tuned by quasi-random trials of all its hyperparameters, see `trials`.
    """

    name: str
    make: MakeOptimizerFn
    tuned: bool
    scheduled: bool = False
    judged: JudgedParamsFn | None = None
    by_trials: bool = False


def _cosine(learning_rate, num_steps, warmup=0.0):
    """Up to the rate over the first share of the steps, then to zero; unlike optax's, for a traced rate."""

    def schedule(count):
        progress = jnp.minimum(count.astype(jnp.float32) / num_steps, 1.0)
        after = jnp.maximum(progress - warmup, 0.0) / (1.0 - warmup)
        return learning_rate * _rise(count, num_steps, warmup) * 0.5 * (1.0 + jnp.cos(jnp.pi * after))

    return schedule


def _rise(count, num_steps, warmup):
    """Linear from step 1 on, and 1 after the warm-up."""
    return jnp.minimum((count + 1).astype(jnp.float32) / jnp.maximum(warmup * num_steps, 1.0), 1.0)


def _adam_by_trials(point: Hyperparameters, num_steps: Any):
    """Its decay is a penalty, added to the gradient; the rate stays constant after the warm-up."""
    rate = lambda count: point.learning_rate * _rise(count, num_steps, point.warmup)
    return optax.chain(optax.add_decayed_weights(point.weight_decay), optax.adam(rate, b2=point.beta2))


def _adamw_by_trials(point: Hyperparameters, num_steps: Any):
    rate = _cosine(point.learning_rate, num_steps, point.warmup)
    return optax.adamw(rate, b2=point.beta2, weight_decay=point.weight_decay)


def _muon_by_trials(point: Hyperparameters, num_steps: Any):
    rate = _cosine(point.learning_rate, num_steps, point.warmup)
    return _muon(rate, adam_b2=point.beta2, weight_decay=point.weight_decay, adam_weight_decay=point.weight_decay)


def _muon(rate: optax.Schedule, **rest: Any):
    """With steps as long as AdamW's, on matrices and on filters, whose last axis is the output; AdamW on the rest."""

    def axes(params):
        along = lambda x: optax.contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1)
        return jax.tree.map(lambda x: along(x) if x.ndim > 1 else None, params)

    return optax.contrib.muon(rate, consistent_rms=0.2, muon_weight_dimension_numbers=axes, **rest)


def _ademamix(rate, num_steps):
    """As in the paper, the slow average comes in over the whole run; β₃ is .999, which it advises for short runs."""
    first, last, most = 0.9, 0.999, 5.0

    def decay(count):
        done = jnp.minimum(count.astype(jnp.float32) / num_steps, 1.0)
        low, high = jnp.log(first), jnp.log(last)
        return jnp.exp(low * high / ((1.0 - done) * high + done * low))

    def mixed(count):
        return most * jnp.minimum(count.astype(jnp.float32) / num_steps, 1.0)

    return optax.contrib.ademamix(_cosine(rate, num_steps), b1=first, b3=decay, alpha=mixed)


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
    "muon": Baseline(
        "Muon, cosine (tuned)", lambda rate, num_steps: _muon(_cosine(rate, num_steps)), tuned=True, scheduled=True
    ),
    "ademamix": Baseline("AdEMAMix, cosine (tuned)", _ademamix, tuned=True, scheduled=True),
    "lion": Baseline(
        "Lion, cosine (tuned)",
        lambda rate, num_steps: optax.lion(_cosine(rate, num_steps)),
        tuned=True,
        scheduled=True,
    ),
    "soap": Baseline(
        "SOAP, cosine (tuned)", lambda rate, num_steps: soap(_cosine(rate, num_steps)), tuned=True, scheduled=True
    ),
    "schedule-free-tuned": Baseline(
        "Schedule-Free AdamW (tuned)",
        lambda rate, num_steps: optax.contrib.schedule_free_adamw(rate),
        tuned=True,
        judged=optax.contrib.schedule_free_eval_params,
    ),
    "prodigy-cosine": Baseline(
        "Prodigy, cosine",
        lambda rate, num_steps: optax.contrib.prodigy(_cosine(1.0, num_steps)),
        tuned=False,
        scheduled=True,
    ),
    "adam-trials": Baseline(f"Adam ({NUM_TRIALS} trials)", _adam_by_trials, tuned=True, scheduled=True, by_trials=True),
    "adamw-trials": Baseline(
        f"AdamW, cosine ({NUM_TRIALS} trials)", _adamw_by_trials, tuned=True, scheduled=True, by_trials=True
    ),
    "muon-trials": Baseline(
        f"Muon, cosine ({NUM_TRIALS} trials)", _muon_by_trials, tuned=True, scheduled=True, by_trials=True
    ),
}
"""The baselines by name. Each has the defaults of optax except for what its name says, and what its function says."""

USUAL = tuple(BASELINES)[:7]
"""Those that an evaluation has beside the judged optimizers unless others are named: one grid for each task."""

FOR_LARGE = ("adam", "adamw-cosine", "muon", "adam-1e-3", "prodigy", "schedule-free", "prodigy-cosine")
"""Those that an evaluation on the suite "large" has unless others are named: three of them are tuned."""

TRIALS = {"adam": "adam-trials", "adamw-cosine": "adamw-trials", "muon": "muon-trials"}
"""For baselines whose rate is tuned by itself, the ones whose other hyperparameters are tuned with it."""


def with_trials(names: Iterable[str]) -> tuple[str, ...]:
    """The names, and after each that has a counterpart in `TRIALS` this counterpart, unless it is there anyway.

    Example:
      >>> with_trials(["adam", "prodigy"])
      ('adam', 'adam-trials', 'prodigy')
    """
    names = tuple(names)
    added = [(name, TRIALS[name]) if name in TRIALS else (name,) for name in names]
    return tuple(dict.fromkeys(name for pair in added for name in pair))


def check(names: Iterable[str]) -> None:
    """Raises a ValueError that lists the baselines, unless all names are keys of `BASELINES`.

    Example:
      >>> check(["adam", "prodigy"])
    """
    for name in names:
        if name not in BASELINES:
            hint = nearest.hint(name, BASELINES)
            raise ValueError(f"there is no baseline {name!r}. {hint}Choose from {', '.join(BASELINES)}.")
