"""Whether an optimizer's steps have the right length: its losses with all steps shorter or longer by a factor.

An optimizer without a learning rate claims that no factor `step_scale` would be better than 1. Each task is trained
with several factors, on the seeds that baselines are tuned on. The regret of a task is the log of the ratio between the
final training loss with the factor 1 and the lowest of all. The tasks are those of the suite `validation` and two
larger models; those of the suite `large` can be named, to report on. Writes JSON and a plot.

    python benchmarks/step_scales.py [NAME …] [--prior KIND …] [--task TASK …] [--data-dir FOLDER] [--out FILE]

NAME is a released optimizer, a file, or the folder of a run. --prior takes an architecture as it is before
meta-training.
"""

import argparse
import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import optimizers
import meta_train
from meta_train import data
from meta_train import tasks
from meta_train.cli import named_optimizer
from meta_train.evaluation import lanes
from meta_train.host import progress
from meta_train.training import engine

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
SEEDS = 2
STEPS = 1000
_FLOOR = 1e-8  # smaller losses count as equal
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def _transformer(data_dir):
    del data_dir
    text = data.load("sklearn_docs")
    return tasks.transformer_language_model("large-transformer", text, width=96, num_layers=3, batch_size=16)


def _perceptron(data_dir):
    return tasks.mlp("large-mlp", data.load("mnist", data_dir=data_dir), hidden_sizes=(512, 512))


# Name: the task, number of steps, seeds. The first has 340,000 parameters, the second 670,000.
LARGE = {"large-transformer": (_transformer, 400, 1), "large-mlp": (_perceptron, 400, 1)}


def losses(make, name, steps, seeds, data_dir):
    """Final training and held-out losses of a task, float64[scales, seeds] each."""
    build, steps_of_large, seeds_of_large = LARGE.get(name, (None, STEPS, SEEDS))
    steps, seeds = steps or steps_of_large, seeds or seeds_of_large
    task = tasks.get(name, data_dir=data_dir) if build is None else build(data_dir)
    program = lanes.build(task, make, width=len(SCALES) * seeds, size=steps)
    keys = jnp.tile(lanes.keys(seeds, lanes.TUNE), len(SCALES))
    training, held_out = program.train(np.repeat(SCALES, seeds), program.begin(keys), (steps,), steps)
    shape = (len(SCALES), seeds)
    return lanes.final_losses(training).reshape(shape), np.asarray(held_out["loss"][0], np.float64).reshape(shape)


def measure(make, task, arguments):
    """A row of the record: geometric means over the seeds, for each scale.

    Args:
      make: `(scale, num_steps) -> optax transformation`.
      task: its name.
      arguments: of the command line.
    """
    steps, seeds = (20, 1) if arguments.quick else (None, None)
    means = [
        [float(np.exp(np.log(np.maximum(of_scale, _FLOOR)).mean())) for of_scale in each]
        for each in losses(make, task, steps, seeds, arguments.data_dir)
    ]
    training, held_out = means
    regret = math.log(training[SCALES.index(1.0)] / min(training))
    return {"task": task, "training_loss": training, "held_out_loss": held_out, "regret": regret}


def _untrained(kind):
    optimizer = optimizers.KINDS[kind]()
    theta = optimizer.init(jax.random.key(0))
    return lambda scale, num_steps: optimizer.transform(theta, num_steps=num_steps, step_scale=scale)


def _trained(name):
    return lambda scale, num_steps: named_optimizer.load(name, (), step_scale=scale)(num_steps)


def table(records):
    """Training losses at each scale, the regret, and the held-out loss at scale 1."""
    lines = [["optimizer", "task", *(f"× {scale:g}" for scale in SCALES), "regret", "held out, × 1"]]
    for name, rows in records.items():
        for row in rows:
            figures = [f"{loss:.3g}" for loss in row["training_loss"]]
            held_out = f"{row['held_out_loss'][SCALES.index(1.0)]:.3g}"
            lines.append([name, row["task"], *figures, f"{row['regret']:.2f}", held_out])
        mean = np.mean([row["regret"] for row in rows])
        lines.append([name, "mean", *[""] * len(SCALES), f"{mean:.2f}", ""])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def plot(records, path):
    """A panel for each optimizer: losses over the scale, in units of the lowest of the task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4 * len(records), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(records), sharey=True, squeeze=False)[0]
    for panel, (name, rows) in zip(panels, records.items(), strict=True):
        for row in rows:
            panel.plot(SCALES, np.array(row["training_loss"]) / min(row["training_loss"]), ".-", label=row["task"])
        panel.set(title=name, xscale="log", yscale="log", xlabel="step_scale")
        panel.set_xticks(SCALES, [f"{scale:g}" for scale in SCALES])
    panels[0].set_ylabel("final training loss / lowest of the task")
    panels[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


def main():
    """Measures every task with every optimizer and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*")
    parser.add_argument("--prior", nargs="+", choices=optimizers.KINDS, default=[], metavar="KIND")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/step_scales.json"))
    usual = [*tasks.suite("validation"), *LARGE]
    choices = [*usual, *tasks.suite("large")]
    parser.add_argument("--task", nargs="+", choices=choices, default=usual, metavar="TASK")
    parser.add_argument("--data-dir", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="20 steps, one seed: a smoke test, not a measurement")
    arguments = parser.parse_args()
    meta_train.use_all_cores()
    engine.cache_compilations()
    contenders = {f"{kind}, before training": _untrained(kind) for kind in arguments.prior}
    names = arguments.name or ([] if arguments.prior else ["default"])
    contenders |= {pathlib.Path(name).name: _trained(name) for name in names}
    pairs = [(name, task) for name in contenders for task in arguments.task]
    records = {name: [] for name in contenders}
    for name, task in progress.over(pairs, unit="task"):
        records[name].append(measure(contenders[name], task, arguments))
    record = {"scales": SCALES, "seeds": SEEDS, **_STANDARD["about"](), "results": records}
    _STANDARD["write"](record, arguments.out)
    plot(records, arguments.out.with_suffix(".png"))
    print(table(records))


if __name__ == "__main__":
    main()
