"""Small results of the papers, measured again: a figure for each, with the paper's claim beside our number.

    python benchmarks/paper_figures.py [--out FOLDER] [--figure NAME …] [--data-dir FOLDER] [--lstm NAME] [--quick]

`andrychowicz-quadratics`, `andrychowicz-digits` (Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474): a
released coordinatewise LSTM against SGD, Nesterov's momentum, RMSprop and Adam, each at the best of 25 rates for the
loss after 100 steps, chosen on functions that are not reported. The network has 20 sigmoid units, for scikit-learn's
digits. `andrychowicz-mnist` is the same on MNIST, if a copy of it is there, for 100 and for 200 steps, with the LSTM
that was trained on it. `andrychowicz-mnist-40-units`, `-two-layers` and `-relu` give that LSTM networks that it has not
seen. `--lstm` takes another one. The first takes two and a half minutes on one core, the others one to two.

`andrychowicz-cifar`: the convolutional net on CIFAR-10, 1,000 steps, three runs, with the LSTMs trained on it;
`-cifar-5` and `-cifar-2` on the pictures of five and of two labels. They need a GPU or patience: a run takes a minute
and a half on a core. The rivals' rates are found among 13 for each by 52 runs of a tenth of the length and 12 whole
ones, then there are up to 30 to report. `--rates-of figures.json` takes rates that an earlier run found, of the same
figure or of the one with all labels. `--runs` is how many to report. `--seed` draws other initial weights and
minibatches, to choose an LSTM by.

`influence-balancing`, `pes-toy` (Vicol et al. 2021, https://arxiv.org/abs/2112.13835): where short windows mislead.
`nres-variance` (Li et al. 2023, https://arxiv.org/abs/2304.12180): variance of PES and of NRES against formulas.

Writes a PNG for each and `figures.json`. `--quick` is a smoke test at toy sizes. Without `--figure` all are made but
those whose data are not at hand, and on a CPU those on CIFAR-10.
"""

import argparse
from collections.abc import Callable
import functools
import os
import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import meta_train
from meta_train import data
from meta_train import estimators
from meta_train.host import progress
from meta_train.training import engine
from meta_train.unroll import truncation

_HERE = pathlib.Path(__file__).parent
_STANDARD = runpy.run_path(str(_HERE / "meta_training.py"))
_BALANCING = runpy.run_path(str(_HERE / "estimators.py"))
_LSTM = runpy.run_path(str(_HERE / "andrychowicz.py"))
_CIFAR = runpy.run_path(str(_HERE / "andrychowicz_cifar.py"))


def on_cifar(figure: str, quick: bool, **options: Any) -> tuple[dict[str, Any], Callable[[Any], None]]:
    """A figure of the LSTMs on CIFAR-10; see `andrychowicz_cifar.cifar`."""
    record, curves = _CIFAR["cifar"](figure, quick, _LSTM["BASELINES"], _LSTM["judged"], **options)
    labels = "all labels" if record["labels"] == "all" else f"{len(record['labels'])} labels"
    return record, lambda panel: _LSTM["draw_curves"](panel, curves, f"CIFAR-10, {labels}, convolutional net")


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


FIGURES: dict[str, Callable[..., tuple[dict[str, Any], Callable[[Any], None]]]] = {
    "andrychowicz-quadratics": _LSTM["quadratics"],
    "andrychowicz-digits": _LSTM["digits"],
    "andrychowicz-mnist": _LSTM["mnist"],
    "andrychowicz-mnist-40-units": _LSTM["mnist_40_units"],
    "andrychowicz-mnist-two-layers": _LSTM["mnist_two_layers"],
    "andrychowicz-mnist-relu": _LSTM["mnist_relu"],
    **{name: functools.partial(on_cifar, name) for name in _CIFAR["SUBSETS"]},
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
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder with MNIST or CIFAR-10 in its files")
    parser.add_argument(
        "--lstm",
        nargs="+",
        metavar="NAME",
        help="released, or a file; on CIFAR-10 up to two, the pair first (default: those trained on the data)",
    )
    _CIFAR["add_options"](parser)
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test, not a measurement")
    arguments = parser.parse_args()
    if arguments.data_dir is not None:
        os.environ[data.DATA_DIR_VARIABLE] = str(arguments.data_dir.absolute())
    chosen = arguments.figure or [name for name in FIGURES if _can_make(name)]
    engine.cache_compilations()
    records = {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with progress.bar(len(chosen), unit="figure") as bar:
        for name in chosen:
            records[name], draw = FIGURES[name](arguments.quick, **_options(name, arguments))
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


def _can_make(name):
    if "cifar" in name:
        return jax.default_backend() != "cpu" and data.available("cifar10") is not None
    return "mnist" not in name or data.available("mnist") is not None


def _options(name, arguments):
    """What a figure gets of the command line."""
    if "cifar" in name:
        return {"lstms": arguments.lstm, **_CIFAR["options"](name, arguments)}
    return {"lstm": arguments.lstm[0]} if "mnist" in name and arguments.lstm else {}


def _short(record):
    for key in ("final_loss", "final_theta"):
        if key in record:
            return ", ".join(f"{name} {value:.3g}" for name, value in record[key].items())
    return ", ".join(
        f"{row['gradients']} {row['windows']}: {row['PES']:.3g} {row['NRES']:.3g}" for row in record["results"]
    )


if __name__ == "__main__":
    main()
