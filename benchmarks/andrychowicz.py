"""Learned optimizers of Andrychowicz et al. 2016 (https://arxiv.org/abs/1606.04474) beside tuned ones, as figures.

`paper_figures.py` runs these; see there. Each figure is a function that returns its record and a function that draws
it on a panel.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import data
from meta_train import tasks
from meta_train.unroll.inner_step import inner_step

BASELINES: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optax.sgd,
    "Nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "RMSprop": optax.rmsprop,
    "Adam": optax.adam,
}
MNIST_LSTM = "coordinatewise-lstm-mnist-v1"
RATES = tuple(float(10 ** (k / 4)) for k in range(-18, 7))


def training_curves(
    task: tasks.Task,
    make: Callable[[Any], Any],
    arguments: Sequence[Any],
    key: jax.Array,
    num_runs: int,
    num_steps: int = 100,
    one_by_one: bool = False,
):
    """Losses of runs by the optimizer `make(argument)`, float[runs, steps] for each of the arguments."""

    @jax.jit
    def train(argument, keys, data):
        def run(key):
            tx = make(argument)
            sample_key, init_key, step_key = jax.random.split(key, 3)
            config = task.sample(sample_key)
            params = task.init(init_key, config)

            def step(carry, key):
                made = inner_step(lambda params: task.loss(params, key, data, config), tx, *carry)
                return (made.params, made.opt_state), made.loss

            return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(step_key, num_steps))[1]

        return jax.lax.map(run, keys) if one_by_one else jax.vmap(run)(keys)

    keys = jax.random.split(key, num_runs)
    return [np.asarray(train(argument, keys, task.data)) for argument in arguments]  # one compilation for all


def andrychowicz(task: tasks.Task, name: str, num_runs: int, last: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The LSTM of that name against tuned baselines. The loss is the mean over the last few of 100 steps."""
    tuning_key, report_key = jax.random.split(jax.random.key(0))
    optimizer, theta = learned_optim.load_pretrained(name)
    curves = {"LSTM": training_curves(task, optimizer.transform, [theta], report_key, num_runs)[0]}
    rates: dict[str, float] = {}
    for baseline, make in BASELINES.items():
        tried = training_curves(task, make, [jnp.float32(rate) for rate in RATES], tuning_key, max(2, num_runs // 2))
        finals = [np.nan_to_num(curve[:, -last:], nan=np.inf, posinf=np.inf).mean() for curve in tried]
        rates[baseline] = RATES[int(np.argmin(finals))]
        (curves[baseline],) = training_curves(task, make, [jnp.float32(rates[baseline])], report_key, num_runs)
    final = {key: curve[:, -last:].mean(axis=1) for key, curve in curves.items()}
    record = {
        "claim": "the LSTM ends below each tuned optimizer",
        "final_loss": {key: float(losses.mean()) for key, losses in final.items()},
        "standard_error": {key: float(losses.std(ddof=1) / np.sqrt(num_runs)) for key, losses in final.items()},
        "learning_rate": rates,
        "runs": num_runs,
        "first_loss": float(curves["LSTM"][:, 0].mean()),
    }
    return record, curves


def quadratics(quick: bool):
    """Ten-dimensional quadratics; the loss is the mean of squares where the paper has the sum."""
    record, curves = andrychowicz(tasks.get("quadratic"), "coordinatewise-lstm-quadratic-v1", 4 if quick else 512, 1)
    return record, lambda panel: draw_curves(panel, curves, "quadratics of ten dimensions")


def digits(quick: bool):
    """The network of the paper on the digits of scikit-learn; the loss is on minibatches of 128."""
    record, curves = andrychowicz(
        tasks.get("digits-mlp-sigmoid"), "coordinatewise-lstm-digits-v1", 2 if quick else 64, 5
    )
    return record, lambda panel: draw_curves(panel, curves, "digits 8×8, MLP of 20 sigmoid units")


def mnist(quick: bool, lstm: str = MNIST_LSTM):
    """The network and the images of the paper, which the LSTM was trained on, for twice as many steps as there."""
    return _on_mnist("MLP of 20 sigmoid units", (20,), jax.nn.sigmoid, 200, quick, lstm)


def mnist_40_units(quick: bool, lstm: str = MNIST_LSTM):
    """Twice as many units as in training."""
    return _on_mnist("MLP of 40 sigmoid units", (40,), jax.nn.sigmoid, 100, quick, lstm)


def mnist_two_layers(quick: bool, lstm: str = MNIST_LSTM):
    """Two hidden layers, where there was one in training."""
    return _on_mnist("MLP of 2 × 20 sigmoid units", (20, 20), jax.nn.sigmoid, 100, quick, lstm)


def mnist_relu(quick: bool, lstm: str = MNIST_LSTM):
    """The paper says that the LSTM fails here."""
    record, draw = _on_mnist("MLP of 20 ReLU units", (20,), jax.nn.relu, 100, quick, lstm)
    return {**record, "claim": "the LSTM fails: the dynamics differ too much from those of sigmoid units"}, draw


def _on_mnist(title, hidden_sizes, activation, num_steps, quick, lstm):
    """The LSTM against baselines that have the best of 25 rates for each measure, found on other seeds."""
    task = tasks.mlp("mnist", data.load("mnist"), hidden_sizes=hidden_sizes, activation=activation)
    tuning_key, report_key = jax.random.split(jax.random.key(0))
    num_runs, num_tuning = (2, 2) if quick else (32, 16)
    rates = RATES[-12::4] if quick else RATES
    optimizer, theta = learned_optim.load_pretrained(lstm)
    curves_of = lambda *run: training_curves(task, *run, num_steps=num_steps, one_by_one=True)
    (learned,) = curves_of(by_units(optimizer).transform, [theta], report_key, num_runs)
    measures = {"step 100": lambda c: c[:, 95:100].mean(axis=1), "mean of 100 steps": lambda c: c[:, :100].mean(axis=1)}
    if num_steps > 100:
        measures[f"step {num_steps}"] = lambda c: c[:, -5:].mean(axis=1)
        measures[f"mean of {num_steps} steps"] = lambda c: c.mean(axis=1)
    runs = {measure: {"LSTM": learned} for measure in measures}
    best: dict[str, dict[str, float]] = {measure: {} for measure in measures}
    for baseline, make in BASELINES.items():
        tried = curves_of(make, [jnp.float32(rate) for rate in rates], tuning_key, num_tuning)
        tried = [np.nan_to_num(curve, nan=np.inf, posinf=np.inf) for curve in tried]
        for measure, of in measures.items():
            best[measure][baseline] = rates[int(np.argmin([of(curve).mean() for curve in tried]))]
        used = sorted({of_measure[baseline] for of_measure in best.values()})
        made = dict(zip(used, curves_of(make, [jnp.float32(rate) for rate in used], report_key, num_runs), strict=True))
        for measure in measures:
            runs[measure][baseline] = made[best[measure][baseline]]
    results = {measure: judged({n: of(c) for n, c in runs[measure].items()}) for measure, of in measures.items()}
    record = {
        "claim": "the LSTM ends below each tuned optimizer",
        "lstm": lstm,
        "final_loss": results["step 100"]["loss"],
        "measures": {measure: {**result, "learning_rate": best[measure]} for measure, result in results.items()},
        "runs": num_runs,
    }
    return record, lambda panel: draw_curves(panel, runs["step 100"], f"MNIST 28×28, {title}")


def judged(losses):
    """Means and standard errors, and how far the LSTM is below the best baseline; all ran from the same weights."""
    error = lambda x: float(np.std(x, ddof=1) / np.sqrt(len(x)))
    mean = {name: float(np.mean(values)) for name, values in losses.items()}
    best = min((name for name in mean if name != "LSTM"), key=mean.__getitem__)
    ahead = losses[best] - losses["LSTM"]
    return {
        "loss": mean,
        "standard_error": {name: error(values) for name, values in losses.items()},
        "best_baseline": best,
        "ahead_of_it": float(np.mean(ahead)),
        "standard_error_of_that": error(ahead),
    }


def draw_curves(panel, curves, title):
    """Mean losses over the steps, by optimizer."""
    for name, losses in curves.items():
        panel.plot(np.mean(losses, axis=0), label=name, linewidth=2 if name == "LSTM" else 1)
    panel.set(title=title, xlabel="step", ylabel="loss", yscale="log")
