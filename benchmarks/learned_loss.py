"""Losses that are learned while a network trains: under wrong labels, and with pictures that are turned.

- `noise`: a part of the training labels is wrong; a few trusted examples are not. Meta-Weight-Net (a network from an
  example's loss to its weight), a weight for each example, and a network that changes the loss, each learned beside the
  classifier: by one unrolled step with second derivatives, by implicit differentiation (Neumann series) and by EvoGrad.
- `rotation`: EvoGrad's toy. Trusted and held-out pictures are turned by 30°, those to train on are not; theta is the
  angle by which to turn them.

Beside them: plain training on the same examples, and on the trusted ones alone. All run with the same engine. For each:
held-out accuracy at the end and the best on the way, seconds of an outer step, temporary memory of the compiled program
as XLA counts it. Writes JSON and a plot.

    python benchmarks/learned_loss.py [--data mnist --data-dir FOLDER] [--part noise rotation] [--trusted N]
        [--learned Meta-Weight-Net] [--out FILE] [--quick]
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import runpy
import statistics
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import Bilevel
from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import problems
from meta_train import truncation
from meta_train.host import progress
from meta_train.training import engine

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
DISPATCH = 50  # outer steps
ANGLE = 30  # degrees
UNDER_NOISE = ("Meta-Weight-Net", "weight of each example", "loss network")  # what is learned there


class Sizes(NamedTuple):
    """How much is trained."""

    num_train: int | None = 5_000  # examples with wrong labels; None: all
    num_trusted: int = 1_000
    noise: float = 0.4
    num_steps: int = 2_000  # outer steps, each with one step of the classifier
    rotation_steps: int = 1_500
    batch_size: int = 100
    hidden_sizes: tuple[int, ...] = (64,)
    seeds: int = 3
    num_test: int = 10_000


QUICK = Sizes(num_train=100, num_trusted=50, num_steps=4, rotation_steps=4, batch_size=8, hidden_sizes=(8,), seeds=1)


class Case(NamedTuple):
    """A training with something to learn beside it."""

    part: str
    learned: str  # what theta is
    bilevel: Bilevel
    theta: Callable[[jax.Array], Any]  # (key) -> theta
    outer_optimizer: optax.GradientTransformation
    inner_optimizer: optax.GradientTransformation
    num_steps: int


def one_step(case: Case) -> estimators.Estimator:
    """The outer loss after one step of the classifier, differentiated: what Meta-Weight-Net does."""
    problem = problems.unrolled(case.bilevel, case.inner_optimizer)
    horizon = truncation.constant(case.num_steps + 1)  # one training, which does not end before the run
    return estimators.truncated_backprop(problem, num_particles=1, unroll_length=1, horizon=horizon, stagger=False)


def implicit(case: Case) -> estimators.Estimator:
    """The implicit function theorem after each step of the classifier, as if it were at its minimum."""
    solver = estimators.linear_solvers.neumann(num_terms=3, step_size=0.1)
    return estimators.implicit(case.bilevel, inner_optimizer=case.inner_optimizer, inner_steps=1, solver=solver)


def evograd(case: Case) -> estimators.Estimator:
    """EvoGrad with the numbers of its paper: two copies, random signs of .001, temperature .05.

    Its gradients are noisy, and Adam makes them as large as any: a loss network drifts away unless its rate is smaller.
    """
    return estimators.evograd(
        case.bilevel, inner_optimizer=case.inner_optimizer, inner_steps=1, noise=jax.random.rademacher
    )


def plain(case: Case) -> estimators.Estimator:
    """Training alone: theta stays, and no gradient by it is taken."""
    trained = one_step(case)
    problem = problems.unrolled(case.bilevel, case.inner_optimizer)

    def estimate(key, theta, state, data, axis_name=None):
        del axis_name
        keys = jax.random.split(key, 1)
        states, losses = jax.vmap(lambda key, state: problem.step(key, theta, state, data))(keys, state.states)
        info = estimators.Info(jnp.mean(losses), jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
        return jax.tree.map(jnp.zeros_like, theta), state._replace(states=states), info

    return trained._replace(estimate=estimate)


WAYS = {"one unrolled step": one_step, "implicit": implicit, "EvoGrad": evograd}


def cases(dataset: data.Dataset, part: str, sizes: Sizes, seed: int) -> tuple[problems.TrustedData, list[Case]]:
    """The data of a part, and what is learned on them."""
    network = few_shot.perceptron(data.num_classes(dataset), sizes.hidden_sizes)
    noise = sizes.noise if part == "noise" else 0.0
    made = problems.trusted_data(dataset, num_trusted=sizes.num_trusted, noise=noise, seed=seed)
    inner = optax.sgd(0.1, momentum=0.9)
    if part == "rotation":
        made = made._replace(trusted_x=np.asarray(turn(made.trusted_x)))
        bilevel = problems.learned_rotation(made, network, batch_size=sizes.batch_size)
        angle = lambda key: jnp.zeros(())
        case = Case(part, "angle", bilevel, angle, optax.adam(0.01), optax.sgd(0.05), sizes.rotation_steps)
        return made, [case]
    made = made._replace(train_x=made.train_x[: sizes.num_train], train_y=made.train_y[: sizes.num_train])
    weigher = few_shot.perceptron(1, (100,))
    of_weigher = lambda key: weigher.init(key, jnp.zeros((1, 1)))
    rows = [
        (problems.meta_weight_net, of_weigher, optax.adam(1e-3)),
        (problems.data_weights, lambda key: jnp.zeros(len(made.train_x)), optax.adam(0.1)),
        (problems.learned_loss, problems.loss_theta, optax.adam(3e-3)),
    ]
    return made, [
        Case(part, name, make(made, network, batch_size=sizes.batch_size), theta, outer, inner, sizes.num_steps)
        for name, (make, theta, outer) in zip(UNDER_NOISE, rows, strict=True)
    ]


def turn(pictures: np.ndarray) -> jax.Array:
    """Turns pictures by `ANGLE`."""
    return problems.rotate(jnp.asarray(pictures), np.deg2rad(ANGLE))


def run(case: Case, estimator: estimators.Estimator, seed: int, accuracy: Callable[[Any], float]) -> dict:
    """Trains, and says how well, how fast and in how much memory."""
    built = engine.build([estimator], case.outer_optimizer, steps_per_dispatch=DISPATCH, devices=jax.devices()[:1])
    theta = case.theta(jax.random.key(seed))
    state = built.init(theta, seed, ahead=False)
    memory = _STANDARD["memory_of"](next(built.lower(state)).compile())
    seconds, curve = [], []
    for done in range(0, case.num_steps, DISPATCH):
        count = min(DISPATCH, case.num_steps - done)
        began = time.perf_counter()
        state, _ = jax.block_until_ready(built.run(state, seed, count))
        seconds.append((time.perf_counter() - began) / count)
        (particles,) = state.estimator_states
        inner = particles.inner if hasattr(particles, "inner") else particles.states
        if (done // DISPATCH) % 5 == 4 or done + count == case.num_steps:
            curve.append([done + count, accuracy(jax.tree.map(lambda x: x[0], inner.params))])
    return {
        "seed": seed,
        "accuracy": curve[-1][1],
        "best_accuracy": max(value for _, value in curve),
        "curve": curve,
        "milliseconds_of_a_step": 1e3 * statistics.median(seconds[1:] or seconds),  # the first may compile
        "temporary_bytes": memory.temp_size_in_bytes,
        "theta": jax.tree.map(np.asarray, state.theta),
    }


def measure(
    dataset: data.Dataset,
    part: str,
    learned: Sequence[str],
    ways: Sequence[str],
    sizes: Sizes,
    bar: progress.Bar,
) -> list[dict]:
    """All ways of the cases of a part, seed by seed. Of the part `noise`, those that are named."""
    rows = []
    test_x, test_y = dataset.test_x[: sizes.num_test], dataset.test_y[: sizes.num_test]
    test_x = np.asarray(turn(test_x)) if part == "rotation" else test_x
    network = few_shot.perceptron(data.num_classes(dataset), sizes.hidden_sizes)
    correct = jax.jit(lambda params, x, y: jnp.mean((jnp.argmax(network.apply(params, x), axis=-1) == y) * 1.0))
    accuracy = lambda params: float(correct(params, test_x, test_y))
    for seed in range(sizes.seeds):
        made, todo = cases(dataset, part, sizes, seed)
        first = todo[0]
        trusted = problems.TrustedData(made.trusted_x, made.trusted_y, made.trusted_x, made.trusted_y)
        for name, examples in (("all", made), ("trusted only", trusted)):
            bilevel = problems.judged_by_trusted(
                examples, network, _mean_loss, name="plain", batch_size=sizes.batch_size
            )
            case = first._replace(learned=f"nothing, {name}", bilevel=bilevel, theta=lambda key: jnp.zeros(()))
            rows.append(_row(case, "plain", run(case, plain(case), seed, accuracy)))
            bar.update()
        for case in todo:
            for way in ways if part == "rotation" or case.learned in learned else ():
                if (case.learned, way) == ("loss network", "EvoGrad"):
                    case = case._replace(outer_optimizer=optax.adam(1e-4))
                rows.append(_row(case, way, run(case, WAYS[way](case), seed, accuracy)))
                bar.update()
    return rows


def _mean_loss(theta, apply, rows, inputs, targets):
    del theta, rows
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(apply(inputs), targets))


def _row(case, way, found):
    """What is kept of a run: of theta, what a reader can use."""
    theta = found.pop("theta")
    row = {"part": case.part, "learned": case.learned, "way": way, **found}
    if case.learned == "angle":
        row["degrees"] = float(np.rad2deg(theta))
    if case.learned == "Meta-Weight-Net":
        losses = jnp.linspace(0.0, 10.0, 41, dtype=jnp.float32)
        row["weights"] = problems.loss_weights(few_shot.perceptron(1, (100,)), theta, losses).tolist()
    return row


def summarize(rows: list[dict]) -> list[dict]:
    """Mean and standard deviation over the seeds."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["part"], row["learned"], row["way"]), []).append(row)
    kept = ("accuracy", "best_accuracy", "degrees", "milliseconds_of_a_step", "temporary_bytes")
    return [
        {"part": part, "learned": learned, "way": way}
        | {key: statistics.mean(row[key] for row in group) for key in kept if key in group[0]}
        | {f"{key}_std": statistics.pstdev(row[key] for row in group) for key in kept[:3] if key in group[0]}
        for (part, learned, way), group in groups.items()
    ]


def plot(rows: list[dict], path: pathlib.Path) -> None:
    """Draws held-out accuracy over the steps of the first seed, a panel for each thing learned, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = [row for row in rows if row["seed"] == 0]
    titles = list(dict.fromkeys((row["part"], row["learned"]) for row in first if row["way"] != "plain"))
    figure = Figure(figsize=(4 * len(titles), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (part, learned) in zip(figure.subplots(1, len(titles), squeeze=False).flat, titles, strict=True):
        for row in first:
            if row["part"] == part and (row["learned"] == learned or row["way"] == "plain"):
                steps, values = zip(*row["curve"], strict=True)
                is_plain = row["way"] == "plain"
                name = row["learned"].replace("nothing", "plain") if is_plain else row["way"]
                panel.plot(steps, values, "--" if is_plain else "-", label=name)
        panel.set(title=f"{part}: {learned}", xlabel="steps", ylabel="held-out accuracy")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", default="digits", help="a data set of pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, help="height and width to which pictures are reduced")
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder of data sets")
    parser.add_argument("--part", nargs="+", choices=("noise", "rotation"), default=["noise", "rotation"])
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--trusted", type=int, help="trusted examples (default: 1,000; of digits 200)")
    parser.add_argument("--learned", nargs="+", choices=UNDER_NOISE, default=UNDER_NOISE, help="under noise (all)")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/learned_loss.json"))
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    arguments = parser.parse_args()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.data == "digits" and not arguments.quick:
        sizes = sizes._replace(num_trusted=200)
    sizes = sizes._replace(seeds=arguments.seeds or sizes.seeds, num_trusted=arguments.trusted or sizes.num_trusted)
    dataset = data.load(arguments.data, size=arguments.size, data_dir=arguments.data_dir)
    rows = []
    count = {"noise": 2 + len(arguments.learned) * len(arguments.way), "rotation": 2 + len(arguments.way)}
    with progress.bar(sizes.seeds * sum(count[part] for part in arguments.part), unit="training") as bar:
        for part in arguments.part:
            rows += measure(dataset, part, arguments.learned, arguments.way, sizes, bar)
    summary = summarize(rows)
    about = {**_STANDARD["about"](), "data": arguments.data, "size": arguments.size, "sizes": sizes._asdict()}
    _STANDARD["write"]({**about, "summary": summary, "results": rows}, arguments.out)
    print(f"{'part':9} {'learned':24} {'by':18} {'accuracy, %':>14} {'best':>6} {'ms':>7} {'MB':>7}  degrees")
    for row in summary:
        accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_std']:.1f}"
        degrees = f"{row['degrees']:6.1f} ± {row['degrees_std']:.1f}" if "degrees" in row else ""
        print(
            f"{row['part']:9} {row['learned']:24} {row['way']:18} {accuracy:>14} {100 * row['best_accuracy']:6.1f} "
            f"{row['milliseconds_of_a_step']:7.2f} {row['temporary_bytes'] / 1e6:7.2f}  {degrees}"
        )
    plot(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
