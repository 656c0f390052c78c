"""How meta-training scales: devices, processes, particles, windows, size of the inner network. JSON and a plot.

One factor is varied at a time around a base: `mlp` with 8 hidden units, PES, 64 pairs, windows of 50, the digits MLP,
all devices. Also, on paper: bytes that travel in an outer step, up to 1,000 hosts.

    python benchmarks/scaling.py [--out FILE] [--repeats N] [--quick]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
from meta_training import about
from meta_training import measure
from meta_training import pes
from meta_training import write

import learned_optim
import meta_train
from meta_train import data
from meta_train import tasks

PAIRS, WINDOW = 64, 50


def _measure(repeats, *, pairs=PAIRS, window=WINDOW, task="digits-mlp", devices=None):
    optimizer = learned_optim.mlp((8,))
    return measure(optimizer, pes(optimizer, pairs, task, window), repeats, devices)


def _processes(count, steps):
    """Inner steps a second of a run of `count` processes with one device each, from its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "meta_train", "train", "demo", "--steps", str(steps), "--out", folder]
        subprocess.run(
            [*command, "--num-processes", str(count)] if count > 1 else command,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
            check=True,
            capture_output=True,
        )
        rows = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()]
    start = rows[steps // 4]["seconds"]  # compilation and warming up are over
    timed = [row for row in rows if row["seconds"] > start]
    return {
        "processes": count,
        "inner_steps_per_second": round(sum(row["inner_steps"] for row in timed) / (timed[-1]["seconds"] - start)),
    }


def _parameters(task):
    params = jax.eval_shape(task.init, jax.random.key(0), jax.eval_shape(task.sample, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def bytes_per_outer_step(num_weights: int, hosts: int, particles: int) -> dict:
    """Bytes that a host sends in an outer step of one task, on paper, with a ring all-reduce.

    Args:
      num_weights: numbers in theta, float32.
      hosts: processes.
      particles: antithetic pairs over all hosts.

    Returns:
      `gradients`: what the engine does: one sum as large as theta, and four scalars. `losses`: the alternative in which
      every host is sent each pair's two sums of losses and redraws all perturbations from their seeds; it saves bytes
      while pairs are fewer than weights, and costs every host the drawing of all pairs' perturbations.
    """
    ring = 2 * (hosts - 1) / hosts
    return {
        "hosts": hosts,
        "particles": particles,
        "gradients": round(ring * 4 * (num_weights + 4)),
        "losses": round((hosts - 1) / hosts * 4 * 4 * particles),
        "normals_drawn_per_host_gradients": num_weights * particles // hosts,
        "normals_drawn_per_host_losses": num_weights * particles,
    }


def plot(record: dict, path: pathlib.Path) -> None:
    """Draws the throughput against each factor to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, factor in zip(figure.subplots(1, 3), ("particles", "window", "parameters"), strict=True):
        rows = record[factor]
        x = [row[factor] for row in rows]
        panel.plot(x, [row["inner_steps_per_second"] for row in rows], marker="o", label="inner steps a second")
        panel.plot(x, [row["state_megabytes"] for row in rows], marker="s", label="state, MB")
        panel.plot(x, [row["temporary_megabytes"] for row in rows], marker="^", label="temporaries, MB")
        panel.set(xlabel=factor, xscale="log", yscale="log")
        panel.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"Wrote {path}")


def main() -> None:
    """Measures, prints as it goes, and writes the record and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/scaling.json"))
    parser.add_argument("--repeats", type=int, default=5, help="timed dispatches (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two small values of each factor only")
    arguments = parser.parse_args()
    repeats, quick = arguments.repeats, arguments.quick
    # Before this process takes the cores for itself.
    processes = [_processes(count, 20 if quick else 100) for count in (1, 2)]
    print(*processes, sep="\n", flush=True)
    meta_train.use_all_cores()

    def show(**row):
        print(row, flush=True)
        return row

    count, pairs = jax.device_count(), 8 if quick else PAIRS
    devices = [show(**_measure(repeats, pairs=pairs, devices=jax.devices()[:n])) for n in sorted({1, count})]
    numbers = (8, 16) if quick else (8, 16, 32, 64, 128, 256, 1024)
    particles = [show(particles=n, **_measure(repeats, pairs=n)) for n in numbers]
    windows = (10, 20) if quick else (10, 20, 50, 100, 200)
    window = [show(window=n, **_measure(repeats, pairs=pairs, window=n)) for n in windows]
    parameters = []
    for width in (13, 26) if quick else (13, 133, 1333, 13333):  # 75 parameters a unit: 1e3 … 1e6
        task = tasks.mlp(f"width {width}", data.load("digits"), hidden_sizes=(width,))
        row = _measure(2 if width > 1000 else repeats, pairs=2, window=10, task=task)
        parameters.append(show(parameters=_parameters(task), **row))
    paper = [bytes_per_outer_step(178, hosts, 16 * hosts) for hosts in (1, 2, 10, 100, 1000)]
    record = {
        **about(),
        "processes": processes,
        "devices": devices,
        "particles": particles,
        "window": window,
        "parameters": parameters,
        "bytes_per_outer_step_on_paper": paper,
    }
    write(record, arguments.out)
    plot(record, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
