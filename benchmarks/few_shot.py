"""Few-shot methods: throughput beside loops written by hand, and memory and time against the number of inner steps.

    python benchmarks/few_shot.py [--out FILE] [--part throughput scaling] [--method NAME …] [--quick]
    python benchmarks/few_shot.py --table runs/few-shot/maml-omniglot …

`throughput`: inner steps a second of the compiled program that `python -m meta_train few-shot METHOD` runs, beside a
jitted loop written for the method alone, on digits and on sinusoids. Both draw episodes in the program. Rates are by
the clock and by CPU seconds.

`scaling`: an outer step of 4 sinusoids, for 1 … 1,000 inner steps: the temporary memory of the compiled program as XLA
states it, and the time. A-MAML's flow is solved with Euler's method here, a step for each inner step.

Writes JSON, and a plot of `scaling` beside it. `--quick` is a smoke test whose figures mean nothing. `--table` prints
the reports of runs as a table, and measures nothing.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import itertools
import json
import pathlib
import runpy
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import problems
from meta_train.estimators import linear_solvers
from meta_train.host import progress
from meta_train.recipes.few_shot import METHODS
from meta_train.training import engine
from meta_train.unroll import truncation
from meta_train.unroll.capabilities import require_bilevel

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
BY_HAND = ("maml", "fomaml", "anil", "meta-sgd", "reptile")  # methods with a loop below
SCALED = ("reverse mode", "rematerialised", "first-order", "iMAML", "A-MAML")
NUM_STEPS = (1, 10, 100, 1000)
_INNER_RATE, _PARTICLES = 0.01, 4  # of `scaling`
_PER_DISPATCH = 10


def make_setting(name: str) -> tuple[few_shot.Episodes, few_shot.Network]:
    """The episodes and the network of the command line."""
    if name == "sinusoid":
        return few_shot.sinusoids(), few_shot.perceptron(1)
    episodes = few_shot.episodes(data.digit_classes(), ways=5, shots=1, queries=5)
    return episodes, few_shot.conv4(5, 32, strided=True)


def by_hand(method: str, episodes: Any, network: Any, *, num_steps: int, num_particles: int) -> Callable[..., Any]:
    """A compiled loop of `_PER_DISPATCH` outer steps: `(params, rates, state, key, data) -> (params, rates, state)`.

    It knows nothing of estimators: gradient descent written out, `jax.grad`, Adam.
    """
    classifies = episodes.classifies
    first_rate = {"maml": 0.4, "fomaml": 0.4, "anil": 0.4}.get(method, 0.1) if classifies else _INNER_RATE
    tx = optax.sgd(0.5) if method == "reptile" else optax.adam(1e-3)

    def loss(params, batch):
        return episodes.loss(network.apply(params, batch.inputs), batch.targets)

    def adapt(theta, support):
        params, rates = theta
        for _ in range(num_steps):
            gradient = jax.grad(loss)(params, support)
            if method in ("fomaml", "reptile"):
                gradient = jax.lax.stop_gradient(gradient)
            move = lambda p, g, r: p - r * g
            if method == "anil":
                params = {
                    **params,
                    network.head: jax.tree.map(move, *(x[network.head] for x in (params, gradient, rates))),
                }
            else:
                params = jax.tree.map(move, params, gradient, rates)
        return params

    def objective(theta, key, pool):
        episode = episodes.sample(key, pool)
        return loss(adapt(theta, episode.support), episode.query)

    def gradient_of(theta, key, pool):
        keys = jax.random.split(key, num_particles)
        if method == "reptile":
            ends = jax.vmap(lambda key: adapt(theta, episodes.sample(key, pool).support))(keys)
            return jax.tree.map(lambda start, end: start - end.mean(axis=0), theta[0], ends), None
        mean = lambda theta: jnp.mean(jax.vmap(lambda key: objective(theta, key, pool))(keys))
        return jax.grad(mean)(theta)

    def outer_step(carried, key, pool):
        (params, rates), state = carried
        gradient, gradient_of_rates = gradient_of((params, rates), key, pool)
        learned = (params, rates) if method == "meta-sgd" else params
        of_learned: Any = (gradient, gradient_of_rates) if method == "meta-sgd" else gradient
        updates, state = tx.update(of_learned, state, learned)
        learned = optax.apply_updates(learned, updates)
        return (learned if method == "meta-sgd" else (learned, rates), state), None

    def run(params, key, pool):
        rates = jax.tree.map(lambda x: jnp.full_like(x, first_rate), params)
        state = tx.init((params, rates) if method == "meta-sgd" else params)
        step = lambda carried, key: outer_step(carried, key, pool)
        return jax.lax.scan(step, ((params, rates), state), jax.random.split(key, _PER_DISPATCH))[0]

    return jax.jit(run)


def throughput(setting: str, method: str, repeats: int) -> dict:
    """Outer and inner steps a second of the library and of the loop written by hand, the best of several dispatches."""
    episodes, network = make_setting(setting)
    learner = METHODS[method](episodes, network, key=jax.random.key(0))
    num_particles = learner.estimator.num_particles
    case = engine.build(
        [learner.estimator], learner.outer_optimizer, steps_per_dispatch=_PER_DISPATCH, devices=jax.devices()[:1]
    )
    state = case.init(learner.theta, 0)
    hand = by_hand(method, episodes, network, num_steps=learner.num_steps, num_particles=num_particles)
    params = learner.theta.params if method == "meta-sgd" else learner.theta
    found: dict[str, list[tuple[float, float]]] = {"library": [], "by hand": []}
    for repeat in range(repeats + 1):  # in turn, so that both meet the same load; the first ones compile
        clocks = [_clocks()]
        state, metrics = case.run(state, 0, _PER_DISPATCH)
        jax.block_until_ready(metrics)
        clocks.append(_clocks())
        jax.block_until_ready(hand(params, jax.random.key(repeat), episodes.train))
        clocks.append(_clocks())
        for times, (before, after) in zip(found.values(), itertools.pairwise(clocks), strict=True):
            if repeat:
                times.append((after[0] - before[0], after[1] - before[1]))
    made = _PER_DISPATCH * learner.inner_steps_per_outer_step
    best = {name: [min(each) for each in zip(*times, strict=True)] for name, times in found.items()}
    return {
        "setting": setting,
        "method": method,
        "inner_steps_per_second": {name: round(made / wall, 1) for name, (wall, _) in best.items()},
        "inner_steps_per_cpu_second": {name: round(made / cpu, 1) for name, (_, cpu) in best.items()},
        "library_by_hand": round(best["by hand"][0] / best["library"][0], 3),
        "library_by_hand_cpu": round(best["by hand"][1] / best["library"][1], 3),
    }


def scaled(name: str, num_steps: int) -> Any:
    """An estimator of the meta-gradient of initial parameters on sinusoids after so many inner steps."""
    episodes, network = make_setting("sinusoid")
    tx = optax.sgd(_INNER_RATE)
    problem = problems.initial_parameters(episodes, network, tx, num_steps, second_derivatives=name != "first-order")
    if name == "iMAML":
        return estimators.implicit(
            problems.proximal(require_bilevel(problem, name), strength=10.0),
            inner_optimizer=tx,
            inner_steps=num_steps,
            num_particles=_PARTICLES,
            solver=linear_solvers.conjugate_gradient(max_steps=5, tolerance=1e-3),
            fresh_start=True,
        )
    if name == "A-MAML":
        import diffrax

        return estimators.adjoint(
            problems.gradient_flow(require_bilevel(problem, name), duration=num_steps * _INNER_RATE),
            num_particles=_PARTICLES,
            solver=diffrax.Euler(),
            step_controller=diffrax.ConstantStepSize(),
            first_step=_INNER_RATE,
            max_steps=num_steps + 2,
        )
    return estimators.full_backprop(
        problem,
        num_particles=_PARTICLES,
        horizon=truncation.constant(num_steps),
        rematerialize=name == "rematerialised",
    )


def scaling(name: str, num_steps: int, repeats: int) -> dict:
    """Temporary memory and the best time of an estimate."""
    estimator = scaled(name, num_steps)
    episodes, network = make_setting("sinusoid")
    theta = problems.initial_theta(episodes, network, jax.random.key(0))
    state = estimator.init(jax.random.key(1), theta)
    arguments = (jax.random.key(2), theta, state, estimator.data)
    compiled = jax.jit(estimator.estimate).lower(*arguments).compile()
    seconds = []
    for _ in range(repeats):
        began = _clocks()
        jax.block_until_ready(compiled(*arguments))
        seconds.append([after - before for before, after in zip(began, _clocks(), strict=True)])
    memory = _STANDARD["memory_of"](compiled)
    return {
        "estimator": name,
        "inner_steps": num_steps,
        "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
        "milliseconds": 1e3 * min(wall for wall, _ in seconds),
        "cpu_milliseconds": 1e3 * min(cpu for _, cpu in seconds),
    }


def _clocks():
    """Seconds of time, and those that this process computed on all cores: on a busy machine the latter mean more."""
    return time.perf_counter(), time.process_time()


def plot(rows: Sequence[dict], path: pathlib.Path) -> None:
    """Draws memory and time against the number of inner steps to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, key, label in zip(
        panels,
        ("temporary_megabytes", "cpu_milliseconds"),
        ("memory of an outer step, MB", "CPU time of an outer step, ms"),
        strict=True,
    ):
        for name in dict.fromkeys(row["estimator"] for row in rows):
            own = [row for row in rows if row["estimator"] == name]
            panel.plot([row["inner_steps"] for row in own], [row[key] for row in own], marker="o", label=name)
        panel.set(xlabel="inner steps", ylabel=label, xscale="log", yscale="log")
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    print(f"Wrote {path}")


def table(folders: Sequence[pathlib.Path]) -> str:
    """The reports of runs as a Markdown table: scores with as many inner steps as in training."""
    lines = [
        "| method | data | inner steps | outer steps | score, held out | CPU time of training | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder in folders:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        percent = report["score"] == "accuracy"
        costs, training = report["training"], report["inner_steps"]
        for row in report["evaluation"]:
            own = row["name"] == report["method"]
            if (own and percent and row["inner_steps"] != training) or (own and row["inner_steps"] == 0):
                continue
            factor, unit = (100, " %") if percent else (1, "")
            score = (
                f"{factor * row['mean']:.{1 if percent else 3}f} ± {factor * row['half_width']:.{1 if percent else 3}f}"
            )
            cost = f"{costs['cpu_seconds']:.0f} s | {costs['peak_megabytes']} MB" if own else "– | –"
            steps = "–" if row["inner_steps"] is None else row["inner_steps"]
            outer = f"{report['outer_steps']:,}" if own else "–"
            lines.append(f"| {row['name']} | {report['data']} | {steps} | {outer} | {score}{unit} | {cost} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, and writes the record and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/few_shot.json"))
    parser.add_argument("--part", nargs="+", choices=("throughput", "scaling"), default=("throughput", "scaling"))
    parser.add_argument("--method", nargs="+", choices=BY_HAND, default=BY_HAND, help="of throughput; default: all")
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    parser.add_argument("--table", nargs="+", type=pathlib.Path, metavar="RUN", help="print a table of runs, and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.table))
        return
    engine.cache_compilations()
    repeats = 1 if arguments.quick else 5
    settings = ("sinusoid",) if arguments.quick else ("sinusoid", "digits")
    methods = arguments.method[:1] if arguments.quick else arguments.method
    lengths = NUM_STEPS[:2] if arguments.quick else NUM_STEPS
    pairs = [(setting, method) for setting in settings for method in methods] * ("throughput" in arguments.part)
    points = [(name, length) for name in SCALED for length in lengths] * ("scaling" in arguments.part)
    record = {**_STANDARD["about"](), "throughput": [], "scaling": []}
    with progress.bar(len(pairs) + len(points), unit="measurement") as bar:
        for pair in pairs:
            record["throughput"].append(throughput(*pair, repeats))
            bar.update()
        for point in points:
            record["scaling"].append(scaling(*point, repeats))
            bar.update()
    for row in record["throughput"]:
        rates = ", ".join(f"{name} {rate:,}" for name, rate in row["inner_steps_per_cpu_second"].items())
        print(
            f"{row['setting']:9} {row['method']:9} inner steps a CPU second: {rates}; {row['library_by_hand_cpu']:.2f} "
            f"times, {row['library_by_hand']:.2f} by the clock"
        )
    for row in record["scaling"]:
        print(
            f"{row['estimator']:15} {row['inner_steps']:5,} inner steps  {row['temporary_megabytes']:9.2f} MB  "
            f"{row['cpu_milliseconds']:9.1f} ms of CPU time"
        )
    _STANDARD["write"](record, arguments.out)
    if record["scaling"]:
        plot(record["scaling"], arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
