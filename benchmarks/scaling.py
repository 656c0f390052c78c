"""How meta-training scales: devices, processes, particles, windows, inner parameters, memory, bytes on the network.

One factor is varied at a time around a base: `adam_residual` with 8 hidden units, PES, 64 pairs, windows of 50, the
digits MLP, all cores as devices of their own.

    python benchmarks/scaling.py [--out FILE] [--repeats N] [--devices 1 2] [--quick]

The cases of a factor take turns within each round, so that other load on the machine affects all of them alike. Ratios
are medians over rounds. Compare figures of one run only. Writes JSON and a plot beside it; `--quick` is a smoke test at
toy sizes, whose figures mean nothing.

- devices: 1, 2, … devices of one core; one device that owns all cores, as in plain JAX; and as many copies of the
  one-device program as there are cores, each with all the pairs. Each case has a process of its own; all are started
  first, then timed in turn. The copies share nothing but the machine, so their loss of speed is a bound for any engine.
- processes: whole runs of `python -m meta_train train`, with logging and checkpoints, without the first dispatch.
- memory: state and temporaries of the compiled program, as XLA counts them.
- bytes: computed, not measured; see `bytes_per_outer_step`.

Longer than 300 lines: each factor has a measurement of its own, and these are read one by one.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import itertools
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

import learned_optim
import meta_train
from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train import recipes
from meta_train import tasks
from meta_train.host import cores
from meta_train.host import progress
from meta_train.host.counted import counted
from meta_train.training import engine
from meta_train.unroll import truncation

FACTORS = ("devices", "processes", "particles", "window", "parameters", "memory_over_horizon")
_MOST = 100  # outer steps in a dispatch
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


class Sizes(NamedTuple):
    """What a run of this script measures."""

    optimizer: str = "adam_residual"
    task: str = "digits-mlp"
    pairs: int = 64
    window: int = 50
    particles: tuple[int, ...] = (8, 16, 64, 256, 1024)
    windows: tuple[int, ...] = (10, 20, 50, 100, 200)
    widths: tuple[int, ...] = (13, 133, 1333, 13333)  # 75 inner parameters a unit: 1e3 … 1e6
    horizons: tuple[int, ...] = (100, 1000, 10000)
    seconds: float = 0.5  # of a timed dispatch, about
    train_steps: int = 60  # outer steps of a run of the command line
    normals: int = 1_000_000  # that are drawn at once


QUICK = Sizes("learned_sgd", "quadratic", 2, 5, (2, 4), (5,), (2,), (100, 1000), 0.02, 20, 1000)


def make_estimator(optimizer, *, task, pairs, window, horizon=None):
    """PES on a task; without a constant horizon, episodes of 100 to 1,000 steps."""
    task = tasks.get(task) if isinstance(task, str) else task
    length = truncation.log_uniform(max(100, window), 1000) if horizon is None else truncation.constant(horizon)
    problem = problems.optimizer_weights(optimizer, task)
    return estimators.pes(problem, num_particles=pairs, unroll_length=window, horizon=length)


def make_recipe(num_steps: int, seed: int = 0, *, optimizer: str, **base) -> recipes.Recipe:
    """The base as a recipe, for the command line."""
    built = getattr(learned_optim, optimizer)()
    theta = built.init(jax.random.key(seed))
    return recipes.Recipe(built, theta, (make_estimator(built, **base),), optax.adam(1e-3), num_steps, seed)


def prepare(
    seconds: float,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]  # bound by assignment
    *,
    optimizer: str,
    **arguments,
) -> tuple[Callable[[], float], dict]:
    """Compiles an outer step. Returns a function that times one dispatch, and the program's facts.

    Args:
      seconds: about how long a dispatch shall take.
      devices: see `engine.build`.
      optimizer: name of the architecture.
      **arguments: of `make_estimator`.

    Returns:
      A function that gives inner steps a second, and a dict of devices, weights in theta, and bytes of state and of
      temporaries, over all devices.
    """
    case, state = _build(optimizer, devices, **arguments)
    facts = {"devices": case.mesh.size, "weights": _count(state.theta), **_memory(case, state)}

    def dispatch(num_steps):
        nonlocal state
        started = time.perf_counter()
        state, metrics = case.run(state, 0, num_steps)
        inner_steps = int(np.sum(metrics.inner_steps))  # waits for the device
        elapsed = time.perf_counter() - started
        return inner_steps / elapsed, elapsed

    dispatch(1)
    num_steps = min(max(1, round(seconds / dispatch(1)[1])), _MOST)
    return lambda: dispatch(num_steps)[0], facts


def _build(optimizer, devices=None, **arguments):
    optimizer = getattr(learned_optim, optimizer)()
    estimator = make_estimator(optimizer, **arguments)
    case = engine.build([estimator], optax.adam(1e-3), steps_per_dispatch=_MOST, devices=devices)
    return case, case.init(optimizer.init(jax.random.key(0)), 0)


def _memory(case, state):
    memory = _STANDARD["memory_of"](next(case.lower(state)).compile())  # of one device
    return {
        "state_bytes": memory.argument_size_in_bytes * case.mesh.size,
        "temporary_bytes": memory.temp_size_in_bytes * case.mesh.size,
    }


def _count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def in_turn(timers: Sequence[Callable[[], float]], rounds: int, bar: progress.Bar) -> list[dict]:
    """Calls all timers in every round, backwards in every other one.

    Returns:
      For each timer the median, best and worst of its rates, and the median of its ratios to the first timer's rate in
      the same round.
    """
    rates = [[0.0] * rounds for _ in timers]
    for i in range(rounds):
        order = range(len(timers))
        for j in reversed(order) if i % 2 else order:
            rates[j][i] = timers[j]()
            bar.update()
    return [
        {
            "inner_steps_per_second": round(statistics.median(row)),
            "best": round(max(row)),
            "worst": round(min(row)),
            "times_first": round(statistics.median(a / b for a, b in zip(row, rates[0], strict=True)), 3),
        }
        for row in rates
    ]


def measure_devices(sizes: Sizes, counts: Sequence[int], rounds: int, bar: progress.Bar) -> list[dict]:
    """One-core devices by number, plain JAX's one device, and copies of one device, each in its own process."""
    ways = [
        *[{"devices": n, "cores_a_device": 1, "copies": 1} for n in counts],
        {"devices": 1, "cores_a_device": "all", "copies": 1},
        {"devices": 1, "cores_a_device": 1, "copies": cores.count()},
    ]
    groups = []
    try:
        for way in ways:
            bar.set_description(f"compiling for {counted(way['devices'], 'device')}")
            groups.append([_start_worker(sizes, way) for _ in range(way["copies"])])
            _ask(groups[-1])  # that they have compiled
        bar.set_description("devices")
        rows = in_turn([lambda group=group: _ask(group) for group in groups], rounds, bar)
    finally:
        for worker in itertools.chain(*groups):
            worker.kill()
            worker.communicate()
    return [{**way, **row} for way, row in zip(ways, rows, strict=True)]


def _start_worker(sizes, way):
    work = {**_base(sizes), "devices": way["devices"], "seconds": sizes.seconds}
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    if way["cores_a_device"] == 1:  # several devices, also if one is used: then none of them takes all cores
        environment["JAX_NUM_CPU_DEVICES"] = str(max(2, cores.count(), way["devices"]))
    command = [sys.executable, __file__, "--worker", json.dumps(work)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


def _ask(group):
    """Lets workers time a dispatch at the same time, and adds their rates. A first answer means "ready"."""
    for worker in group:
        try:
            worker.stdin.write("\n")
            worker.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and gives no answer
    answers = [worker.stdout.readline() for worker in group]
    for worker, answer in zip(group, answers, strict=True):
        if not answer:
            raise RuntimeError(f"a worker ended with status {worker.wait()}; it says why above.")
    return sum(map(float, answers))


def work(*, devices, seconds, **base):
    """The main loop of a worker, which answers each line of its input."""
    if len(jax.devices()) < devices:
        raise ValueError(f"--devices must be at most {len(jax.devices())}, which JAX has, got {devices}: give fewer.")
    time_dispatch, _ = prepare(seconds, jax.devices()[:devices], **base)
    sys.stdin.readline()
    print(0.0, flush=True)
    for _ in sys.stdin:
        print(time_dispatch(), flush=True)


def measure_processes(sizes: Sizes, rounds: int, bar: progress.Bar) -> list[dict]:
    """Runs of the command line in one process and in two, with one device or one core per process."""
    ways = [
        {"processes": 1, "devices_a_process": 1, "cores": 1},
        {"processes": 1, "devices_a_process": 1, "cores": "all"},
        {"processes": 2, "devices_a_process": 1, "cores": "all"},
    ]
    if not hasattr(os, "sched_setaffinity"):  # no way to hold a process to one core
        del ways[0]
    bar.set_description("processes")
    with tempfile.TemporaryDirectory() as folder:
        recipe = pathlib.Path(folder) / "recipe.py"
        recipe.write_text(
            f"import functools\nimport runpy\n\nmake = runpy.run_path({__file__!r})['make_recipe']\n"
            f"recipe = functools.partial(make, num_steps={sizes.train_steps}, **{_base(sizes)!r})\n",
            encoding="utf-8",
        )
        rows = in_turn([lambda way=way: _train(recipe, way) for way in ways], rounds, bar)
    return [{**way, **row} for way, row in zip(ways, rows, strict=True)]


def _train(recipe, way):
    """Inner steps a second of a run of the command line, from its metrics."""
    cores = sorted(os.sched_getaffinity(0))[:1] if way["cores"] == 1 else None
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "meta_train", "train", str(recipe), "--out", folder]
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
        if way["processes"] > 1:
            command += ["--num-processes", str(way["processes"])]
        result = subprocess.run(
            command,
            env=environment,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with status {result.returncode}:\n{result.stderr}")
        metrics = (pathlib.Path(folder) / "metrics.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in metrics.splitlines()]
    first = 10  # outer steps of the first dispatch, at whose end compilation is over
    elapsed = rows[-1]["seconds"] - rows[first - 1]["seconds"]
    return sum(row["inner_steps"] for row in rows[first:]) / max(elapsed, 0.001)


def measure_factor(cases: Sequence[dict], sizes: Sizes, rounds: int, bar: progress.Bar) -> list[dict]:
    """Rates and memory of estimators; each case names its differences from the base."""
    prepared = []
    for i, case in enumerate(cases):
        bar.set_description(f"compiling {i + 1} of {len(cases)} that differ in {', '.join(case)}")
        prepared.append(prepare(sizes.seconds, **{**_base(sizes), **case}))
    bar.set_description(", ".join(cases[0]))
    rows = in_turn([time_dispatch for time_dispatch, _ in prepared], rounds, bar)
    return [{**facts, **row} for (_, facts), row in zip(prepared, rows, strict=True)]


def _vary(factor, name, values, sizes, rounds, bar):
    rows = measure_factor([{name: value} for value in values], sizes, rounds, bar)
    return [{factor: value, **row} for value, row in zip(values, rows, strict=True)]


def measure_parameters(sizes: Sizes, rounds: int, bar: progress.Bar) -> list[dict]:
    """Networks of growing width on digits, one pair a device and windows of 10: inner steps and parameter updates."""
    built = [tasks.mlp(f"width {width}", data.load("digits"), hidden_sizes=(width,)) for width in sizes.widths]
    cases = [{"task": task, "pairs": jax.device_count(), "window": 10} for task in built]
    rows = measure_factor(cases, sizes, rounds, bar)
    counts = [_count(jax.eval_shape(task.init, jax.random.key(0), ())) for task in built]
    return [
        {"parameters": count, "parameter_updates_per_second": count * row["inner_steps_per_second"], **row}
        for count, row in zip(counts, rows, strict=True)
    ]


def memory_over_horizons(sizes: Sizes, bar: progress.Bar) -> list[dict]:
    """State and temporaries at several horizons; they must be equal."""
    rows = []
    for horizon in sizes.horizons:
        bar.set_description(f"horizon {horizon}")
        rows.append({"horizon": horizon, **_memory(*_build(**_base(sizes), horizon=horizon))})
        bar.update()
    return rows


def bytes_per_outer_step(weights: int, hosts: int, pairs: int, scalars_per_pair: int = 2) -> dict:
    """Bytes that each host receives in an outer step of one task, on paper, for two ways of sharing the work.

    gradients: what the engine does, a sum as long as theta in a ring all-reduce: 2 (n - 1) / n · 4 bytes a weight,
    whatever the number of pairs. losses: the alternative, in which every host is sent the scalars of all other hosts'
    pairs and redraws their noise from the seeds. It also costs every host the drawing of all pairs' noise, and PES the
    memory of all pairs' accumulators.

    Args:
      weights: numbers in theta, float32.
      hosts: processes n.
      pairs: antithetic pairs of each host.
      scalars_per_pair: float32 numbers that a pair's gradient takes. PES: 2, the differences of the losses before and
        after an episode's end. Evolution strategies without episodes that end in a window: 1.

    Example:
      >>> row = bytes_per_outer_step(1000, hosts=2, pairs=10)
      >>> row["gradients"], row["losses"], row["smaller"]
      (4000, 80, 'losses')
    """
    gradients, losses = 8 * weights * (hosts - 1) // hosts, 4 * scalars_per_pair * pairs * (hosts - 1)
    return {
        "weights": weights,
        "hosts": hosts,
        "pairs_a_host": pairs,
        "gradients": gradients,
        "losses": losses,
        "smaller": "equal" if gradients == losses else "gradients" if gradients < losses else "losses",
        "normals_drawn_a_host_with_gradients": weights * pairs,
        "normals_drawn_a_host_with_losses": weights * pairs * hosts,
    }


def normals_per_second(count: int) -> float:
    """Standard normal numbers that one device draws in a second: the best of five draws."""
    draw = jax.jit(lambda seed: jax.random.normal(jax.random.key(seed), (count,)))
    draw(0).block_until_ready()
    seconds = []
    for seed in range(5):
        started = time.perf_counter()
        draw(seed).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return count / min(seconds)


def on_paper(sizes: Sizes) -> dict:
    """The two exchanges for 1 … 1,000 hosts, for a small theta and a large one."""
    rows = []
    for kind in ("adam_residual", "velo"):
        weights = _count(jax.eval_shape(getattr(learned_optim, kind)().init, jax.random.key(0)))
        rows += [{"optimizer": kind, **bytes_per_outer_step(weights, n, sizes.pairs)} for n in (1, 2, 10, 100, 1000)]
    return {"normals_per_second_a_device": round(normals_per_second(sizes.normals)), "rows": rows}


def _base(sizes):
    return {"optimizer": sizes.optimizer, "task": sizes.task, "pairs": sizes.pairs, "window": sizes.window}


def plot(record: dict, path: pathlib.Path) -> None:
    """Draws a panel for each factor to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    bars, particles, windows, parameters, memory, paper = figure.subplots(2, 3).flat
    named = {
        f"{r['copies']} × {r['devices']} device(s)\n{r['cores_a_device']} core(s) each": r for r in record["devices"]
    }
    named |= {f"{r['processes']} process(es)\n{r['cores']} core(s)": r for r in record["processes"]}
    bars.barh(list(named), [row["inner_steps_per_second"] for row in named.values()])
    bars.set(title="inner steps a second", ylim=(max(len(named), 1) - 0.5, -0.5))
    for panel, factor in ((particles, "particles"), (windows, "window"), (parameters, "parameters")):
        panel.set(title="inner steps a second", xlabel=factor)
        if not record[factor]:
            continue
        x = [row[factor] for row in record[factor]]
        for name in ("worst", "inner_steps_per_second", "best"):
            style = {"marker": "o"} if name == "inner_steps_per_second" else {"color": "0.7"}
            panel.plot(x, [row[name] for row in record[factor]], **style)
        panel.set(xscale="log")
        if factor != "parameters":
            panel.set(ylim=(0, None))
    if record["parameters"]:
        parameters.plot(x, [row["parameter_updates_per_second"] for row in record["parameters"]], marker="s")
        parameters.set(title="inner steps and (■) parameter updates a second", yscale="log")
    for factor, rows in (("particles", record["particles"]), ("horizon", record["memory_over_horizon"])):
        for part, style in (("state_bytes", "-"), ("temporary_bytes", ":")):
            x, y = [row[factor] for row in rows], [row[part] / 1e6 for row in rows]
            memory.plot(x, y, style, marker="o", label=f"{part.partition('_')[0]} over {factor}")
    memory.set(title="memory, MB", xlabel="antithetic pairs, or horizon")
    if record["particles"] or record["memory_over_horizon"]:
        memory.set(xscale="log", yscale="log")
    for kind in ("adam_residual", "velo"):
        rows = [row for row in record["on_paper"]["rows"] if row["optimizer"] == kind and row["hosts"] > 1]
        paper.plot([r["hosts"] for r in rows], [r["gradients"] for r in rows], marker="o", label=f"{kind}, gradients")
    paper.plot([r["hosts"] for r in rows], [r["losses"] for r in rows], "k:", label="losses")
    paper.set(title="bytes a host and outer step, on paper", xlabel="hosts", xscale="log", yscale="log")
    for panel in (memory, paper):
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, and writes the record and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/scaling.json"))
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: %(default)s)")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2], help="numbers of devices (default: 1 2)")
    parser.add_argument("--factor", nargs="+", choices=FACTORS, default=FACTORS, help="what to vary (default: all)")
    parser.add_argument("--quick", action="store_true", help="a smoke test, at toy sizes")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(**arguments.worker)
        return

    engine.cache_compilations()
    sizes, rounds = (QUICK, 1) if arguments.quick else (Sizes(), arguments.repeats)
    few = min(rounds, 3)  # of what takes long
    measures = {
        "devices": lambda bar: measure_devices(sizes, arguments.devices, rounds, bar),
        "processes": lambda bar: measure_processes(sizes, few, bar),
        "particles": lambda bar: _vary("particles", "pairs", sizes.particles, sizes, rounds, bar),
        "window": lambda bar: _vary("window", "window", sizes.windows, sizes, rounds, bar),
        "parameters": lambda bar: measure_parameters(sizes, few, bar),
        "memory_over_horizon": lambda bar: memory_over_horizons(sizes, bar),
    }
    record: dict[str, Any] = {factor: [] for factor in FACTORS}
    with progress.bar(None, unit="run") as bar:
        for factor, measure in measures.items():
            if factor == "particles":  # those before it run in processes of their own, which need the cores
                meta_train.use_all_cores()
            if factor in arguments.factor:
                record[factor] = measure(bar)
    record["on_paper"] = on_paper(sizes)
    for name in arguments.factor:
        print(name, *record[name], sep="\n  ")
    _STANDARD["write"]({**_STANDARD["about"](), "base": sizes._asdict(), **record}, arguments.out)
    plot(record, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
