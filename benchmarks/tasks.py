"""The cost of each named task: seconds to compile, milliseconds a step, memory; and the loss that Adam reaches.

A program trains 16 particles for 50 steps of Adam, as meta-training does with learned optimizers: side by side, with
loss, gradient and update in one loop. Times are for one core. Tasks are measured one after the other, each beside
`digits-mlp`, so that other load on the machine hardly affects their ratio. Writes JSON.

    python benchmarks/tasks.py [--out FILE] [--suite NAME] [--task NAME …] [--repeats N] [--data-dir FOLDER]
"""

import argparse
import os
import pathlib
import runpy
import statistics
import time

import jax
import numpy as np
import optax

import meta_train
from meta_train import data
from meta_train import tasks
from meta_train.host import progress
from meta_train.unroll.inner_step import inner_step

PARTICLES, STEPS = 16, 50
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def compile_training(task):
    """Compiles the program, without any cache; returns it with its arguments and the seconds that it took."""
    tx = optax.adam(1e-2 if jax.tree.leaves(task.data) else 1e-1)

    def train(key, data):
        sample_key, init_key, train_key = jax.random.split(key, 3)
        config = task.sample(sample_key)
        params = task.init(init_key, config)

        def step(carry, key):
            made = inner_step(lambda params: task.loss(params, key, data, config), tx, *carry)
            return (made.params, made.opt_state), tasks.normalized_loss(task, made.loss, config)

        return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(train_key, STEPS))[1]

    arguments = jax.device_put((jax.random.split(jax.random.key(0), PARTICLES), task.data))
    began = time.perf_counter()
    compiled = jax.jit(jax.vmap(train, (0, None))).lower(*arguments).compile()
    return compiled, arguments, time.perf_counter() - began


def seconds(program):
    """Time of one call."""
    compiled, arguments, _ = program
    began = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    return time.perf_counter() - began


def measure(name, standard, repeats):
    """A row of the record."""
    program = compile_training(tasks.get(name))
    losses = np.asarray(program[0](*program[1]))  # the first call, not timed
    pairs = [(seconds(program), seconds(standard)) for _ in range(repeats)]
    milliseconds = [1e3 * own / (PARTICLES * STEPS) for own, _ in pairs]
    return {
        "task": name,
        "suite": tasks.TASKS[name].suite,
        "compile_seconds": round(program[2], 2),
        "milliseconds_a_step": round(statistics.median(milliseconds), 4),
        "best": round(min(milliseconds), 4),
        "times_digits_mlp": round(statistics.median(own / other for own, other in pairs), 3),
        "temporary_bytes_a_particle": _STANDARD["memory_of"](program[0]).temp_size_in_bytes // PARTICLES,
        "normalized_loss_first": round(float(losses[:, 0].mean()), 3),
        "normalized_loss_last": round(float(losses[:, -5:].mean()), 3),
    }


def main() -> None:
    """Measures the tasks named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/tasks.json"))
    parser.add_argument("--suite", choices=tasks.SUITES, help="(default: all but large)")
    parser.add_argument("--task", nargs="+", choices=tasks.TASKS, metavar="NAME", help="(default: all of the suite)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls (default: %(default)s)")
    parser.add_argument("--data-dir", help=f"folder with data sets (default: ${data.DATA_DIR_VARIABLE})")
    arguments = parser.parse_args()
    if arguments.data_dir:
        os.environ[data.DATA_DIR_VARIABLE] = arguments.data_dir
    usual = tuple(name for name in tasks.TASKS if name not in tasks.suite("large"))  # 16 large models take too long
    names = arguments.task or (tasks.suite(arguments.suite) if arguments.suite else usual)
    meta_train.use_all_cores()  # devices of one core each; the programs run on the first
    standard = compile_training(tasks.get("digits-mlp"))
    seconds(standard)
    print(f"{'task':28} {'compile':>9} {'a step':>11} {'/ digits-mlp':>13} {'temporaries':>12} {'loss':>13}")
    rows = []
    with progress.bar(len(names), unit="task") as bar:
        for name in names:
            row = measure(name, standard, arguments.repeats)
            rows.append(row)
            bar.write(
                f"{name:28} {row['compile_seconds']:7.1f} s {row['milliseconds_a_step']:8.3f} ms "
                f"{row['times_digits_mlp']:13.2f} {row['temporary_bytes_a_particle'] / 1e6:9.2f} MB "
                f"{row['normalized_loss_first']:6.2f} {row['normalized_loss_last']:6.2f}"
            )
            bar.update()
    record = {**_STANDARD["about"](), "particles": PARTICLES, "steps": STEPS, "results": rows}
    _STANDARD["write"](record, arguments.out)


if __name__ == "__main__":
    main()
