"""Meta-training throughput: inner steps a second, time to the first result, memory. `make bench` runs it.

The standard case: digits 8×8, MLP 64-32-10, batch 128, 16 antithetic pairs (and 64), windows of 50 inner steps. An
inner step is one update of one particle; a pair makes two at a time. Prints a table and writes JSON.

    python benchmarks/meta_training.py [--out FILE] [--case NAME … | --all] [--repeats N]
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from learned_optim import optimizers
from learned_optim.optimizers.coordinatewise_lstm import by_units
import meta_train
from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.training import engine
from meta_train.unroll import truncation

STEPS_PER_DISPATCH = 5


def pes(optimizer, num_particles, task="digits-mlp", unroll_length=50):
    """PES on a task, given by name or built, with the standard window."""
    task = tasks.get(task) if isinstance(task, str) else task
    problem = problems.optimizer_weights(optimizer, task)
    horizon = truncation.log_uniform(max(100, unroll_length), 1000)
    return estimators.pes(problem, num_particles=num_particles, unroll_length=unroll_length, horizon=horizon)


def truncated_backprop(optimizer, num_particles):
    """Truncated backprop on the digits MLP as in Andrychowicz et al.: windows of 20, runs of 100 steps."""
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"), second_derivatives=False)
    return estimators.truncated_backprop(
        problem, num_particles=num_particles, unroll_length=20, horizon=truncation.constant(100)
    )


def lstm_on_pictures(every=None):
    """Truncated backprop as in Andrychowicz et al. on their network for MNIST, with made-up pictures.

    Args:
      every: derivatives pass through one of so many coordinates, with the state by units; None: the plain optimizer.
    """

    def make(optimizer, num_particles):
        draw = np.random.default_rng(0)
        pictures, labels = draw.random((1000, 28, 28, 1), np.float32), np.arange(1000, dtype=np.int32) % 10
        made_up = data.Dataset(pictures, labels, pictures, labels)
        task = tasks.mlp("pictures", made_up, hidden_sizes=(20,), activation=jax.nn.sigmoid)
        if every is None:
            problem = problems.optimizer_weights(optimizer, task, second_derivatives=False)
        else:
            problem = problems.sampled_coordinates(by_units(optimizer), task, every=every)
        return estimators.truncated_backprop(
            problem, num_particles=num_particles, unroll_length=20, horizon=truncation.constant(100)
        )

    return make


# Floating-point operations of an inner step in the LSTM's matrix products: forward, and twice that backward.
LSTM_FLOPS = 3 * 2 * (784 * 20 + 20 + 20 * 10 + 10) * (22 * 80 + 40 * 80 + 20)
LSTM_CASES = {
    "coordinatewise_lstm, MNIST, plain": None,
    "coordinatewise_lstm, MNIST, by units": 1,
    "coordinatewise_lstm, MNIST, by units, every 21st": 21,
}


def estimate(constructor, **arguments):
    """Another estimator on the digits MLP, with the standard window; whole episodes have 100 steps."""

    def make(optimizer, num_particles):
        problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"))
        return constructor(problem, num_particles=num_particles, horizon=truncation.constant(100), **arguments)

    return make


CASES = {
    "mlp 4, PES, 16 pairs": lambda: (learned_optim.mlp((4,)), pes, 16),
    "mlp 8, PES, 16 pairs": lambda: (learned_optim.mlp((8,)), pes, 16),
    "mlp 4, PES, 64 pairs": lambda: (learned_optim.mlp((4,)), pes, 64),
    "mlp 8, PES, 64 pairs": lambda: (learned_optim.mlp((8,)), pes, 64),
    "factored_mlp, PES, 64 pairs": lambda: (learned_optim.factored_mlp(), pes, 64),
    "adam_residual, PES, 64 pairs": lambda: (learned_optim.adam_residual(), pes, 64),
    "prodigy_residual, PES, 64 pairs": lambda: (learned_optim.prodigy_residual(), pes, 64),
    "prodigy_muon, PES, 64 pairs": lambda: (learned_optim.prodigy_muon(), pes, 64),
    **{  # every architecture at the size that it has by default
        f"{kind}, PES, 16 pairs": lambda constructor=constructor: (constructor(), pes, 16)
        for kind, constructor in sorted(optimizers.KINDS.items())
    },
    **{
        f"mlp 4, {name}, 16 pairs": lambda make=make: (learned_optim.mlp((4,)), make, 16)
        for name, make in {
            "NRES": estimate(estimators.nres, unroll_length=50),
            "truncated ES": estimate(estimators.truncated_es, unroll_length=50),
            "full ES": estimate(estimators.full_es),
        }.items()
    },
    "mlp 4, truncated backprop, 16 particles": lambda: (learned_optim.mlp((4,)), truncated_backprop, 16),
    "mlp 4, full backprop, 16 particles": lambda: (learned_optim.mlp((4,)), estimate(estimators.full_backprop), 16),
    "mlp 4, forward gradient, 16 particles": lambda: (
        learned_optim.mlp((4,)),
        estimate(estimators.forward_gradient),
        16,
    ),
    "coordinatewise_lstm, truncated backprop, 8 particles": lambda: (
        learned_optim.coordinatewise_lstm(),
        truncated_backprop,
        8,
    ),
    **{  # one particle, so one core
        name: lambda every=every: (learned_optim.coordinatewise_lstm(), lstm_on_pictures(every), 1)
        for name, every in LSTM_CASES.items()
    },
}
STANDARD = (  # what is measured unless others are asked for: a few minutes
    "mlp 4, PES, 16 pairs",
    "mlp, PES, 16 pairs",
    "factored_mlp, PES, 16 pairs",
    "adam_residual, PES, 64 pairs",
    "prodigy_muon, PES, 64 pairs",
    "coordinatewise_lstm, PES, 16 pairs",
    "mlp 4, truncated backprop, 16 particles",
)


def measure(
    optimizer: learned_optim.LearnedOptimizer,
    estimator: meta_train.Estimator,
    repeats: int,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]  # bound by assignment
) -> dict:
    """Times `repeats` dispatches after the first; gives median, best and worst rate, and the program's memory.

    `per_processor_second` is the best rate by processor time, of one core. It leaves out the turns of other programs.
    """
    began = time.perf_counter()
    case = engine.build([estimator], optax.adam(1e-3), steps_per_dispatch=STEPS_PER_DISPATCH, devices=devices)
    state = case.init(optimizer.init(jax.random.key(0)), 0)
    rates, of_processor = [], []
    for repeat in range(repeats + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        state, metrics = case.run(state, 0, STEPS_PER_DISPATCH)
        inner_steps = int(np.sum(metrics.inner_steps))  # waits for the device
        rates.append(inner_steps / (time.perf_counter() - started))
        of_processor.append(inner_steps / (time.process_time() - cpu_started))
        if repeat == 0:
            first = time.perf_counter() - began
    rates = rates[1:]
    memory = memory_of(next(case.lower(state)).compile())  # of one device
    return {
        "devices": case.mesh.size,
        "weights": sum(leaf.size for leaf in jax.tree.leaves(state.theta)),
        "inner_steps_per_second": round(statistics.median(rates)),
        "best": round(max(rates)),
        "worst": round(min(rates)),
        "per_processor_second": round(max(of_processor[1:])),
        "seconds_to_first_result": round(first, 2),
        "state_megabytes": round(memory.argument_size_in_bytes * case.mesh.size / 1e6, 3),
        "temporary_megabytes": round(memory.temp_size_in_bytes * case.mesh.size / 1e6, 3),
    }


def flops_per_inner_step(optimizer: learned_optim.LearnedOptimizer, task: str = "digits-mlp") -> float:
    """Floating-point operations of one inner step, forward, backward and update, as XLA counts them."""
    problem = problems.optimizer_weights(optimizer, tasks.get(task))
    key, theta = jax.random.key(0), optimizer.init(jax.random.key(0))
    state = problem.init(key, theta, jnp.asarray(100, jnp.int32))
    return flops_of(jax.jit(problem.step).lower(key, theta, state, problem.data).compile())


def flops_of(compiled: jax.stages.Compiled) -> float:
    """Floating-point operations of a compiled program, as XLA counts them."""
    costs = compiled.cost_analysis()
    if costs is None:
        raise RuntimeError("this backend does not count floating-point operations: run the benchmark on another one.")
    return costs["flops"]


def memory_of(compiled: jax.stages.Compiled) -> Any:
    """The memory that a compiled program needs on each device: XLA's `CompiledMemoryStats`."""
    memory = compiled.memory_analysis()
    if memory is None:
        raise RuntimeError("this backend does not tell a program's memory: run the benchmark on another one.")
    return memory


def matmul_rate(size: int = 1024, repeats: int = 10, clock: Callable[[], float] = time.perf_counter) -> float:
    """The machine's float32 matrix product, in operations a second over all devices: the best of `repeats`.

    With `clock=time.process_time` on CPUs: of one core, by processor time.
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("devices",))
    product = jax.jit(jax.shard_map(lambda x: x @ x, mesh=mesh, in_specs=jax.P("devices"), out_specs=jax.P("devices")))
    x = jnp.ones((jax.device_count(), size, size), jnp.float32) / size
    product(x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        started = clock()
        product(x).block_until_ready()
        seconds.append(clock() - started)
    return 2 * size**3 * jax.device_count() / min(seconds)


def about() -> dict:
    """The machine, the versions and the commit, for a record of measurements."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        ).stdout.strip()
    except OSError:  # there is no git
        commit = ""
    return {
        "machine": {"processor": _processor(), "devices": jax.device_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__},
        "commit": commit or "unknown",
    }


def write(record: dict, path: pathlib.Path) -> None:
    """Writes a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


def _processor():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main() -> None:
    """Measures the cases named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/meta_training.json"))
    parser.add_argument("--case", nargs="+", choices=CASES, default=STANDARD, metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--all", action="store_true", help="every architecture and every estimator; takes long")
    parser.add_argument("--repeats", type=int, default=7, help="timed dispatches (default: %(default)s)")
    arguments = parser.parse_args()
    meta_train.use_all_cores()

    peak, core_peak = matmul_rate(), matmul_rate(clock=time.process_time)
    print(f"{_processor()}, {jax.device_count()} devices, JAX {jax.__version__}, Python {platform.python_version()}")
    print(f"float32 matrix product: {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{'case':44} {'inner steps/s':>13} {'worst–best':>17} {'first result':>13} {'state':>9} {'temporary':>10} "
        f"{'MFLOP/step':>11} {'of peak':>8} {'by CPU time':>12}"
    )
    rows = []
    for name in CASES if arguments.all else arguments.case:
        optimizer, make_estimator, num_particles = CASES[name]()
        row = {"case": name, **measure(optimizer, make_estimator(optimizer, num_particles), arguments.repeats)}
        # Of the inner step alone: truncated backprop differentiates it, which costs two to three times as much again.
        # In the cases on MNIST: of the LSTM's matrix products, with their derivatives for all coordinates.
        flops = LSTM_FLOPS if name in LSTM_CASES else flops_per_inner_step(optimizer)
        row["megaflops_per_inner_step"] = round(flops / 1e6, 3)
        used = peak * row["devices"] / jax.device_count()
        row["share_of_matmul_rate"] = row["megaflops_per_inner_step"] * 1e6 * row["inner_steps_per_second"] / used
        row["share_by_processor_time"] = flops * row["per_processor_second"] / core_peak
        rows.append(row)
        spread = f"{row['worst']:,}–{row['best']:,}"
        print(
            f"{name:44} {row['inner_steps_per_second']:13,} {spread:>17} {row['seconds_to_first_result']:11.1f} s "
            f"{row['state_megabytes']:6.1f} MB {row['temporary_megabytes']:7.1f} MB "
            f"{row['megaflops_per_inner_step']:11.2f} {row['share_of_matmul_rate']:8.0%} "
            f"{row['share_by_processor_time']:12.1%}",
            flush=True,
        )
    write(
        {
            **about(),
            "matmul_gigaflops": round(peak / 1e9, 1),
            "core_gigaflops": round(core_peak / 1e9, 1),
            "results": rows,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
