"""Small results of the papers, measured again: a figure for each, with the paper's claim beside our number.

    python benchmarks/paper_figures.py [--out FOLDER] [--figure NAME …] [--data-dir FOLDER] [--lstm NAME] [--quick]

`andrychowicz-quadratics`, `andrychowicz-digits` (Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474): a
released coordinatewise LSTM against SGD, Nesterov's momentum, RMSprop and Adam, each at the best of 25 rates for the
loss after 100 steps, chosen on functions that are not reported. The network has 20 sigmoid units, for scikit-learn's
digits. `andrychowicz-mnist` is the same on MNIST, if a copy of it is there, for 100 and for 200 steps, with the LSTM
that was trained on it. `andrychowicz-mnist-40-units`, `-two-layers` and `-relu` give that LSTM networks that it has not
seen. `--lstm` takes another one. The first takes two and a half minutes on one core, the others one to two.
`influence-balancing`, `pes-toy` (Vicol et al. 2021, https://arxiv.org/abs/2112.13835): where short windows mislead.
`nres-variance` (Li et al. 2023, https://arxiv.org/abs/2304.12180): variance of PES and of NRES against formulas.

Writes a PNG for each and `figures.json`. `--quick` is a smoke test at toy sizes.

Longer than 300 lines: each figure is a section of its own, and these are read one by one.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import os
import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
import meta_train
from meta_train import data
from meta_train import estimators
from meta_train import tasks
from meta_train.host import progress
from meta_train.training import engine
from meta_train.unroll import truncation
from meta_train.unroll.inner_step import inner_step

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
_BALANCING = runpy.run_path(str(pathlib.Path(__file__).parent / "estimators.py"))
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
    return record, lambda panel: _curves(panel, curves, "quadratics of ten dimensions")


def digits(quick: bool):
    """The network of the paper on the digits of scikit-learn; the loss is on minibatches of 128."""
    record, curves = andrychowicz(
        tasks.get("digits-mlp-sigmoid"), "coordinatewise-lstm-digits-v1", 2 if quick else 64, 5
    )
    return record, lambda panel: _curves(panel, curves, "digits 8×8, MLP of 20 sigmoid units")


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
    results = {measure: _judged({n: of(c) for n, c in runs[measure].items()}) for measure, of in measures.items()}
    record = {
        "claim": "the LSTM ends below each tuned optimizer",
        "lstm": lstm,
        "final_loss": results["step 100"]["loss"],
        "measures": {measure: {**result, "learning_rate": best[measure]} for measure, result in results.items()},
        "runs": num_runs,
    }
    return record, lambda panel: _curves(panel, runs["step 100"], f"MNIST 28×28, {title}")


def _judged(losses):
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


def descend(estimator: meta_train.Estimator, theta: Any, tx: Any, num_steps: int, seed: int) -> np.ndarray:
    """Thetas of outer steps from theta, float[steps + 1, …]."""

    @jax.jit
    def run(key, theta):
        def outer_step(carry, key):
            theta, state, outer_state = carry
            gradient, state, _ = estimator.estimate(key, theta, state, estimator.data)
            updates, outer_state = tx.update(gradient, outer_state)
            theta = optax.apply_updates(theta, updates)
            return (theta, state, outer_state), theta

        keys = jax.random.split(key, num_steps)
        return jax.lax.scan(outer_step, (theta, estimator.init(key, theta), tx.init(theta)), keys)[1]

    thetas = np.asarray(run(jax.random.key(seed), theta))
    return np.concatenate([np.asarray(theta)[None], thetas])


def influence_balancing(quick: bool):
    """Theta under each estimator. The optimum is found on a grid; of endless episodes it is -1/6."""
    problem, num_steps = _BALANCING["influence_balancing"](), 20 if quick else 1500
    common = {"num_particles": 50, "unroll_length": 5, "horizon": truncation.constant(500)}
    made = {
        "truncated backprop": estimators.truncated_backprop(problem, **common),
        "truncated ES": estimators.truncated_es(problem, std=0.1, **common),
        "PES": estimators.pes(problem, std=0.1, **common),
        "NRES": estimators.nres(problem, std=0.1, **common),
    }

    @jax.jit
    @jax.vmap
    def loss(theta):
        step = lambda state, _: problem.step(None, theta, state, problem.data)
        return jnp.mean(jax.lax.scan(step, problem.init(None, theta, 500), None, length=500)[1])

    grid = np.linspace(-0.3, 0.1, 401, dtype=np.float32)
    optimum = float(grid[np.argmin(loss(grid))])
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(2e-3))
    paths = {name: descend(estimator, jnp.asarray(0.5), tx, num_steps, 0) for name, estimator in made.items()}
    record = {
        "claim": "windows of 5 lead away from the optimum, PES to it",
        "final_theta": {name: float(path[-1]) for name, path in paths.items()},
        "optimum": optimum,
    }

    def draw(panel):
        _paths(panel, paths)
        panel.axhline(optimum, color="k", linestyle=":", label="optimum")
        panel.set(title="influence balancing, windows of 5 in episodes of 500", xlabel="outer step", ylabel="theta")

    return record, draw


def pes_toy(quick: bool):
    """Two learning rates, of the start and of the end, on a toy where greedy windows keep them small."""
    horizon, num_steps = 100, 20 if quick else 2000

    def loss(x):
        basin = jnp.sqrt(x[0] ** 2 + 5) - jnp.sqrt(5.0)
        return basin + jnp.sin(x[1]) ** 2 * jnp.exp(-5 * x[0] ** 2) + 0.25 * jnp.abs(x[1] - 100)

    def step(key, theta, state, data):
        x, time = state
        rate = jnp.exp(theta[0] * (1 - time / horizon) + theta[1] * time / horizon)
        return (x - rate * jax.grad(loss)(x), time + 1), loss(x)

    problem = meta_train.Problem(lambda key, theta, num_steps: (jnp.ones(2), jnp.zeros(())), step)
    mean = jax.jit(
        jax.vmap(
            lambda theta: jnp.mean(
                jax.lax.scan(lambda s, _: step(None, theta, s, ()), (jnp.ones(2), jnp.zeros(())), None, length=horizon)[
                    1
                ]
            )
        )
    )
    common = {"num_particles": 100, "unroll_length": 10, "horizon": truncation.constant(horizon)}
    made = {
        "truncated backprop": estimators.truncated_backprop(problem, **common),
        "truncated ES": estimators.truncated_es(problem, std=0.3, **common),
        "PES": estimators.pes(problem, std=0.3, **common),
        "NRES": estimators.nres(problem, std=0.3, **common),
    }
    tx, start = optax.adam(1e-2, b1=0.99), jnp.array([-4.0, -4.0])
    losses = {name: np.asarray(mean(descend(e, start, tx, num_steps, 1))) for name, e in made.items()}
    record = {
        "claim": "PES finds large early rates; windows of 10 by themselves stay where they began",
        "first_loss": float(losses["PES"][0]),
        "final_loss": {name: float(path[-1]) for name, path in losses.items()},
    }

    def draw(panel):
        _paths(panel, losses)
        panel.set(title="the toy of the PES paper", xlabel="outer step", ylabel="mean loss of an episode")

    return record, draw


def nres_variance(quick: bool):
    """A loss at an episode's end that is linear in the theta of each window, with gradients that agree or do not."""
    size, counts = 32, (1, 4) if quick else (1, 2, 4, 8, 16, 32)
    rows: list[dict[str, Any]] = []
    for kind in ("aligned", "orthogonal"):
        for windows in counts:
            gradients = np.eye(size)[np.zeros(windows, int) if kind == "aligned" else np.arange(windows)]
            row = {"gradients": kind, "windows": windows}
            for name, constructor in {"PES": estimators.pes, "NRES": estimators.nres}.items():
                row[name] = episode_variance(constructor, gradients, 50 if quick else 4000)
            squared_sum = np.sum(gradients.sum(axis=0) ** 2)
            row["PES, formula"] = float(size * windows * np.sum(gradients**2) + squared_sum)
            row["NRES, formula"] = float((size + 1) * squared_sum)
            rows.append(row)
    record = {"claim": "NRES has at most the variance of PES, far less where windows disagree", "results": rows}

    def draw(panel):
        # Three of the four series coincide: the larger, open markers stay visible around the smaller ones.
        styles = {
            ("PES", "aligned"): {"marker": "o", "color": "C0", "markersize": 13, "fillstyle": "none"},
            ("NRES", "aligned"): {"marker": "s", "color": "C1", "markersize": 9, "fillstyle": "none"},
            ("PES", "orthogonal"): {"marker": "^", "color": "C2", "markersize": 5},
            ("NRES", "orthogonal"): {"marker": "v", "color": "C3", "markersize": 5},
        }
        for (name, kind), style in styles.items():
            some = [row for row in rows if row["gradients"] == kind]
            x = [row["windows"] for row in some]
            panel.plot(x, [r[f"{name}, formula"] for r in some], color="gray", linewidth=1)
            panel.plot(x, [r[name] for r in some], linestyle="none", label=f"{name}, {kind} gradients", **style)
        panel.set(xscale="log", yscale="log", xlabel="windows in an episode", ylabel="variance of the gradient (trace)")
        panel.set_title(f"variance, theta of {size} numbers (lines: formulas)")

    return record, draw


def episode_variance(constructor: Callable[..., Any], gradients: np.ndarray, samples: int) -> float:
    """Trace of the covariance of an estimate, by one pair; window j moves the last loss by theta's product with G_j."""
    windows, size = gradients.shape

    def step(key, theta, state, data):
        time, total = state
        total = total + data[jnp.minimum(time, windows - 1)] @ theta
        return (time + 1, total), jnp.where(time == windows - 1, total, 0.0)

    start = (jnp.zeros((), jnp.int32), jnp.zeros(()))
    problem = meta_train.Problem(lambda key, theta, num_steps: start, step, jnp.asarray(gradients, jnp.float32))
    settings = {"unroll_length": 1, "horizon": truncation.constant(windows), "std": 0.01}
    estimator = constructor(problem, num_particles=1, stagger=False, **settings)

    @jax.jit
    @jax.vmap
    def episode(key):
        theta, keys = jnp.zeros(size), jax.random.split(key, windows)
        window = lambda state, key: estimator.estimate(key, theta, state, estimator.data)[1::-1]
        return jnp.sum(jax.lax.scan(window, estimator.init(key, theta), keys)[1], axis=0)

    return float(np.var(np.asarray(episode(jax.random.split(jax.random.key(0), samples))), axis=0, ddof=1).sum())


def _paths(panel, paths):
    """One line for each estimator; the first is broad, since the second, dashed, may run along it."""
    styles = ({"linewidth": 4, "alpha": 0.5}, {"linestyle": "--"}, {}, {"linewidth": 1})
    for (name, path), style in zip(paths.items(), styles, strict=True):
        panel.plot(path, label=name, **style)


def _curves(panel, curves, title):
    for name, losses in curves.items():
        panel.plot(np.mean(losses, axis=0), label=name, linewidth=2 if name == "LSTM" else 1)
    panel.set(title=title, xlabel="step", ylabel="loss", yscale="log")


FIGURES: dict[str, Callable[..., tuple[dict[str, Any], Callable[[Any], None]]]] = {
    "andrychowicz-quadratics": quadratics,
    "andrychowicz-digits": digits,
    "andrychowicz-mnist": mnist,
    "andrychowicz-mnist-40-units": mnist_40_units,
    "andrychowicz-mnist-two-layers": mnist_two_layers,
    "andrychowicz-mnist-relu": mnist_relu,
    "influence-balancing": influence_balancing,
    "pes-toy": pes_toy,
    "nres-variance": nres_variance,
}


def main() -> None:
    """Makes the figures and the record."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/paper_figures"))
    parser.add_argument("--figure", nargs="+", choices=FIGURES, default=None, metavar="NAME", help="(default: all)")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder with MNIST in its files")
    parser.add_argument("--lstm", default=MNIST_LSTM, metavar="NAME", help="released, or a file (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test, not a measurement")
    arguments = parser.parse_args()
    if arguments.data_dir is not None:
        os.environ[data.DATA_DIR_VARIABLE] = str(arguments.data_dir.absolute())
    chosen = arguments.figure or [n for n in FIGURES if "mnist" not in n or data.available("mnist")]
    engine.cache_compilations()
    records = {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with progress.bar(len(chosen), unit="figure") as bar:
        for name in chosen:
            options = {"lstm": arguments.lstm} if "mnist" in name else {}
            records[name], draw = FIGURES[name](arguments.quick, **options)
            figure = Figure(figsize=(6.5, 4.4), layout="constrained")
            FigureCanvasAgg(figure)
            panel = figure.subplots()
            draw(panel)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
            figure.suptitle(f"claim: {records[name]['claim']}", fontsize=8)
            figure.savefig(arguments.out / f"{name}.png", dpi=120)
            bar.write(f"{name}: {_short(records[name])}")
            bar.update()
    _STANDARD["write"]({**_STANDARD["about"](), "figures": records}, arguments.out / "figures.json")


def _short(record):
    for key in ("final_loss", "final_theta"):
        if key in record:
            return ", ".join(f"{name} {value:.3g}" for name, value in record[key].items())
    return ", ".join(
        f"{row['gradients']} {row['windows']}: {row['PES']:.3g} {row['NRES']:.3g}" for row in record["results"]
    )


if __name__ == "__main__":
    main()
