"""Meta-training throughput: inner steps a second, time to the first result, and compile time. `make bench` runs it.

The standard case: digits 8×8, MLP 64-32-10, batch 128, 16 antithetic pairs (and 64), windows of 50 inner steps. An
inner step is one update of one particle; a pair makes two at a time. Prints a table and writes JSON.

    python benchmarks/meta_training.py [--out FILE] [--case NAME …] [--devices N] [--repeats N]
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import jax
import numpy as np
import optax

import learned_optim
import meta_train
from meta_train import engine
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train import truncation

STEPS_PER_DISPATCH = 5


def _pes(optimizer, num_particles):
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"))
    return estimators.pes(
        problem, num_particles=num_particles, unroll_length=50, horizon=truncation.log_uniform(100, 1000)
    )


def _truncated_backprop(optimizer, num_particles):
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"), second_derivatives=False)
    return estimators.truncated_backprop(
        problem, num_particles=num_particles, unroll_length=20, horizon=truncation.constant(100)
    )


CASES = {
    "mlp 4, PES, 16 pairs": lambda: (learned_optim.mlp((4,)), _pes, 16),
    "mlp 8, PES, 16 pairs": lambda: (learned_optim.mlp((8,)), _pes, 16),
    "mlp 32×32, PES, 16 pairs": lambda: (learned_optim.mlp((32, 32)), _pes, 16),
    "mlp 4, PES, 64 pairs": lambda: (learned_optim.mlp((4,)), _pes, 64),
    "mlp 8, PES, 64 pairs": lambda: (learned_optim.mlp((8,)), _pes, 64),
    "mlp 4, truncated backprop, 16 particles": lambda: (learned_optim.mlp((4,)), _truncated_backprop, 16),
    "LSTM 2×20, truncated backprop, 8 particles": lambda: (
        learned_optim.coordinatewise_lstm(),
        _truncated_backprop,
        8,
    ),
}


def measure(name: str, repeats: int) -> dict:
    """Times a case: the median, best and worst of `repeats` dispatches after the first."""
    optimizer, make_estimator, num_particles = CASES[name]()
    began = time.perf_counter()
    theta = optimizer.init(jax.random.key(0))
    case = engine.build(
        [make_estimator(optimizer, num_particles)], optax.adam(1e-3), steps_per_dispatch=STEPS_PER_DISPATCH
    )
    state = case.init(theta, 0)
    rates = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        state, metrics = case.run(state, 0, STEPS_PER_DISPATCH)
        inner_steps = int(np.sum(metrics.inner_steps))  # waits for the device
        rates.append(inner_steps / (time.perf_counter() - started))
        if repeat == 0:
            first = time.perf_counter() - began
    rates = rates[1:]
    return {
        "case": name,
        "devices": case.mesh.size,
        "weights": sum(leaf.size for leaf in jax.tree.leaves(theta)),
        "inner_steps_per_second": round(statistics.median(rates)),
        "best": round(max(rates)),
        "worst": round(min(rates)),
        "seconds_to_first_result": round(first, 2),
    }


def _processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def _commit():
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def main() -> None:
    """Measures the cases named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/meta_training.json"))
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--devices", type=int, help="CPU devices (default: one for each core)")
    parser.add_argument("--repeats", type=int, default=7, help="timed dispatches (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.devices:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    meta_train.use_all_cores()

    print(f"{_processor()}, {jax.device_count()} devices, JAX {jax.__version__}, Python {platform.python_version()}")
    print(f"{'case':44} {'inner steps/s':>13} {'worst–best':>17} {'first result':>13}")
    rows = []
    for name in arguments.case:
        row = measure(name, arguments.repeats)
        rows.append(row)
        spread = f"{row['worst']:,}–{row['best']:,}"
        print(f"{name:44} {row['inner_steps_per_second']:13,} {spread:>17} {row['seconds_to_first_result']:11.1f} s")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": {"processor": _processor(), "devices": jax.device_count(), "platform": platform.platform()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__},
        "commit": _commit(),
        "results": rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"Wrote {arguments.out}")


if __name__ == "__main__":
    main()
