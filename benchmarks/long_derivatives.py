"""What derivatives of final losses after long trainings are worth: one outer step against them, measured anew.

    python benchmarks/long_derivatives.py [--task digits-mlp] [--steps 600] [--backward 600] [--decay .995]
        [--episodes 32] [--length .1] [--held-out] [--out FILE]

For `secant_muon` close to its first weights (the outputs of its networks are small instead of zero, so that all weights
have derivatives), `k_rmd` estimates the meta-gradient of the log of the final loss. Coordinates of the estimate count
by their sign, those within two standard errors of zero proportionally less, as an outer optimizer such as Adam would
have it. Then theta moves that way, all of it or only the weights of one part, and the change in the log of the final
loss is measured on other episodes, each cut at ±1. The signal-to-noise ratio is that of one episode: the squared norm
of the mean over the trace of the covariance. `--es` has that of an antithetic pair of perturbations of std .1, by the
ranks of the differences, too.

Two minutes for a case; prints, and writes JSON.
"""

import argparse
import pathlib
import runpy
from typing import Any

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.problems import objectives
from meta_train.unroll import episodes
from meta_train.unroll import truncation

_STD, _BATCH, _NUM_JUDGED = 0.1, 8, 64
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def make_problem(name: str, held_out: bool) -> Any:
    """Log of the final loss of a training, in units of the loss of an untrained model."""
    task = tasks.get(name, sampled=True)
    scale = task.scale
    task = task._replace(normalize=lambda loss: loss / scale)
    problem = problems.optimizer_weights(learned_optim.secant_muon(), task, horizon_dropout=0.25)
    return objectives.log_final(objectives.held_out(problem, task) if held_out else problem, floor=1e-5)


def start() -> Any:
    """Theta, with small outputs of its networks."""
    theta = learned_optim.secant_muon().init(jax.random.key(0))
    for name in ("direction_network", "step_network"):
        noise = jax.random.normal(jax.random.key(7), theta[name]["w_out"].shape)
        theta[name]["w_out"] = 3e-3 * noise
    return theta


def parts(theta: Any) -> dict[str, np.ndarray]:
    """For each part, float64[weights] ones where a weight is part of it."""
    inside = {
        "all": lambda name: True,
        "without the networks": lambda name: "network" not in name,
        "network of a coordinate": lambda name: name == "direction_network",
        "network of a tensor": lambda name: name == "step_network",
    }
    masks = {}
    for title, is_inside in inside.items():
        ones = {name: optax.tree.full_like(leaves, float(is_inside(name))) for name, leaves in theta.items()}
        masks[title] = np.asarray(flatten_util.ravel_pytree(ones)[0], np.float64)
    return masks


def gradients(problem: Any, theta: Any, arguments: argparse.Namespace) -> np.ndarray:
    """Unit gradients of single episodes, float64[episodes, weights]; zero where one is not finite."""
    estimator = estimators.k_rmd(
        problem,
        num_particles=1,
        horizon=truncation.constant(arguments.steps),
        num_backward=arguments.backward,
        decay=arguments.decay,
    )
    state = estimator.init(jax.random.key(0), theta)

    @jax.jit
    def batch(key, data):
        one = lambda key: flatten_util.ravel_pytree(estimator.estimate(key, theta, state, data)[0])[0]
        return jax.vmap(one)(jax.random.split(key, _BATCH))

    keys = jax.random.split(jax.random.key(1), arguments.episodes // _BATCH)
    made = np.concatenate([batch(key, problem.data) for key in keys]).astype(np.float64)
    norms = np.linalg.norm(made, axis=1, keepdims=True)
    print(
        "norms, from the least to the largest:", " ".join(f"{x:.3g}" for x in np.nanquantile(norms, [0, 0.25, 0.5, 1]))
    )
    return np.nan_to_num(made / np.maximum(norms, 1e-12))


def final_losses(problem: Any, unravel: Any, num_steps: int) -> Any:
    """`(weights [particles, …], keys) -> log of the final losses`."""

    def one(weights, key, data):
        return episodes.mean_loss(problem, key, unravel(weights), jnp.int32(num_steps), num_steps, data)[0]

    run = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))
    return lambda weights, keys: np.asarray(run(jnp.asarray(weights, jnp.float32), keys, problem.data), np.float64)


def signal_to_noise(x: np.ndarray) -> float:
    """Squared norm of the mean of the rows over the trace of their covariance, without bias."""
    variance = x.var(axis=0, ddof=1).sum()
    return float((np.sum(x.mean(axis=0) ** 2) - variance / len(x)) / variance)


def main() -> None:
    """Measures a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits-mlp", metavar="NAME")
    parser.add_argument("--steps", type=int, default=600, help="of an episode")
    parser.add_argument("--backward", type=int, help="last steps with derivatives; default: all")
    parser.add_argument("--decay", type=float, default=0.995)
    parser.add_argument("--episodes", type=int, default=32, help="in the estimate, a multiple of 8")
    parser.add_argument("--length", type=float, default=0.1, help="of the outer step")
    parser.add_argument("--held-out", action="store_true", help="losses of held-out examples")
    parser.add_argument("--es", action="store_true", help="the noise of evolution strategies beside it")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/long_derivatives.json"))
    arguments = parser.parse_args()
    arguments.backward = arguments.backward or arguments.steps
    problem, theta = make_problem(arguments.task, arguments.held_out), start()
    weights, unravel = flatten_util.ravel_pytree(theta)
    made, masks = gradients(problem, theta, arguments), parts(theta)
    record: dict[str, Any] = {"snr": {title: signal_to_noise(made[:, mask > 0]) for title, mask in masks.items()}}
    mean = made.mean(axis=0)
    error = np.maximum(made.std(axis=0, ddof=1) / np.sqrt(len(made)), 1e-12)
    direction = np.sign(mean) * np.minimum(1.0, np.abs(mean) / error / 2.0)
    run = final_losses(problem, unravel, arguments.steps)
    keys = jax.random.split(jax.random.key(2), _NUM_JUDGED)
    judged = lambda weights: run(np.tile(weights, (_NUM_JUDGED, 1)), keys)
    before, record["change"] = judged(weights), {}
    for title, mask in masks.items():
        way = direction * mask
        moved = np.asarray(weights) - arguments.length * way / np.linalg.norm(way)
        change = np.clip(np.nan_to_num(judged(moved) - before, nan=1.0), -1.0, 1.0)
        record["change"][title] = [change.mean(), change.std(ddof=1) / np.sqrt(_NUM_JUDGED)]
        print(
            f"{title:24} SNR {record['snr'][title]:.3f}, change {change.mean():+.4f} ± {record['change'][title][1]:.4f}"
        )
    if arguments.es:
        noise = _STD * np.random.default_rng(0).standard_normal((arguments.episodes, len(weights)))
        keys = jax.random.split(jax.random.key(3), arguments.episodes)
        ranks = (
            np.argsort(np.argsort(run(weights + noise, keys) - run(weights - noise, keys))) / arguments.episodes - 0.5
        )
        record["snr of evolution strategies"] = signal_to_noise(ranks[:, None] * noise)
        print(f"evolution strategies: SNR {record['snr of evolution strategies']:.5f}")
    options = {key: value for key, value in vars(arguments).items() if key != "out"}
    _STANDARD["write"]({**_STANDARD["about"](), **options, **record}, arguments.out)


if __name__ == "__main__":
    main()
