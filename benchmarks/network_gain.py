"""What the networks of `secant_muon` add: it and its sibling without them, meta-trained at equal budget and judged.

    python benchmarks/network_gain.py [--steps 64] [--seeds 0 1] [--task …] [--data-dir DIR] [--out DIR]
    python benchmarks/network_gain.py --train networks|plain        (half of the runs, to share them between processes)

Both are the recipe `secant_muon_general_v1`, with its networks and without, trained for the same outer steps, a
sixteenth of them and a quarter: what more would give shows in that curve. Runs that were stopped go on, and finished
ones are not repeated. Then all thetas, and those a quarter of the way to them, are lanes of one program for each task
of the suite `validation`, at 200, 1,000 and 2,000 steps. Changes are means over tasks of log(loss / loss before
meta-training), cut at ±1 for each task.

The recipe needs Fashion-MNIST, in DIR or from tensorflow-datasets. Writes the runs, JSON and a plot. Hours on two
cores.
"""

import argparse
from collections.abc import Sequence
import functools
import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from meta_train import recipes
from meta_train import tasks
from meta_train.cli import options
from meta_train.evaluation import lanes
from meta_train.recipes import secant_muon_general_v1

_WITHOUT = functools.partial(secant_muon_general_v1.recipe, hidden_size=0, step_hidden_size=0)
KINDS = {"networks": secant_muon_general_v1.recipe, "plain": _WITHOUT}
BUDGETS = (16, 4, 1)  # divisors of the outer steps
SHARES = (1.0, 0.25)  # of the way; the plot shows the last
STEPS, SEEDS = (200, 1000, 2000), 3  # of the judge
_CUT, _FLOOR = 1.0, 1e-8
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def train(kind: str, seed: int, num_steps: int, out: pathlib.Path) -> Any:
    """Meta-trains a recipe, or goes on with the run, or reads its result; returns the final theta."""
    folder = out / f"{kind}-{seed}-{num_steps}"
    made = KINDS[kind](num_steps=num_steps, seed=seed)._replace(share=1.0)
    file = folder / "theta.safetensors"
    if not file.exists():
        theta = recipes.run(made, run_dir=folder, resume=folder.exists()).theta
        learned_optim.save(file, made.optimizer, theta)
    return learned_optim.load(file)[1]


def full(theta: Any) -> Any:
    """Theta of the architecture with networks: those that a sibling lacks have an output of zero."""
    whole = learned_optim.secant_muon().init(jax.random.key(0))
    return jax.tree.map(lambda _, x: jnp.asarray(x), whole, {**whole, **theta})


def judge(name: str, num_thetas: int) -> lanes.Lanes:
    """The program that trains a task with all thetas, each on all seeds."""
    optimizer = learned_optim.secant_muon()
    like = jax.tree.map(np.asarray, optimizer.init(jax.random.key(0)))
    make = lambda theta, num_steps: optimizer.transform(theta, num_steps=num_steps)
    task = tasks.get(name)
    return lanes.build(task, make, width=num_thetas * SEEDS, size=max(STEPS), like=like)


def losses(program: lanes.Lanes, thetas: Sequence[Any]) -> np.ndarray:
    """Log of the final training and held-out losses, float64[numbers of steps, 2, thetas], means over the seeds."""
    repeated = jax.tree.map(lambda *x: np.repeat(np.stack(x), SEEDS, axis=0), *thetas)
    keys = jnp.concatenate([lanes.keys(SEEDS, lanes.TUNE)] * len(thetas))
    start, made = program.begin(keys), []
    for steps in STEPS:
        training, held_out = program.train(repeated, start, (steps,), steps)
        both = np.stack([lanes.final_losses(training), held_out["loss"][0]]).astype(np.float64)
        both = np.log(np.clip(np.nan_to_num(both, nan=np.inf), _FLOOR, 1 / _FLOOR))
        made.append(both.reshape(2, len(thetas), SEEDS).mean(axis=-1))
    return np.array(made)


def plot(rows: Sequence[dict], path: pathlib.Path) -> None:
    """Change of the training loss at each number of steps over outer steps, a line for each kind and seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, axes in enumerate(figure.subplots(1, len(STEPS), sharey=True, squeeze=False)[0]):
        for kind, color in zip(KINDS, "rb", strict=False):
            for seed in sorted({row["seed"] for row in rows}):
                line = [row for row in rows if (row["kind"], row["seed"], row["share"]) == (kind, seed, SHARES[-1])]
                xy = [(row["outer_steps"], row["training"][i]) for row in line]
                axes.plot(*zip(*sorted(xy), strict=True), color + "o-", label=kind)
        axes.axhline(0.0, color="0.7")
        axes.set(xscale="log", xlabel="outer steps", title=f"{STEPS[i]:,} steps")
    figure.axes[0].set(ylabel="change of log training loss")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64, help="outer steps of the longest runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--task", nargs="+", metavar="NAME", help="to judge by; without DIR only embedded ones")
    parser.add_argument("--data-dir", type=pathlib.Path, metavar="DIR", help="folder with data sets")
    parser.add_argument("--train", choices=KINDS, metavar="KIND", help="make the runs of one kind only, and end")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/network_gain"))
    arguments = parser.parse_args()
    options.use_data_dir(arguments.data_dir)  # recipes take it from there too
    names = arguments.task or list(tasks.suite("validation", embedded=arguments.data_dir is None))
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, thetas = [], [jax.tree.map(np.asarray, full({}))]
    for kind in [arguments.train] if arguments.train else KINDS:
        for divisor in BUDGETS:
            for seed in arguments.seeds:
                num_steps = arguments.steps // divisor
                theta = train(kind, seed, num_steps, arguments.out)
                initial = KINDS[kind](num_steps=num_steps, seed=seed).theta
                for share in SHARES:
                    thetas.append(jax.tree.map(np.asarray, full(optax.incremental_update(theta, initial, share))))
                    rows.append({"kind": kind, "seed": seed, "outer_steps": num_steps, "share": share})
    if arguments.train:
        return
    measured = {name: losses(judge(name, len(thetas)), thetas) for name in names}
    changes = np.clip(np.array([x - x[:, :, :1] for x in measured.values()]), -_CUT, _CUT).mean(axis=0)
    for i, row in enumerate(rows, start=1):
        row |= {"training": changes[:, 0, i].tolist(), "held_out": changes[:, 1, i].tolist()}
        figures = "  ".join(f"{a:+.3f} / {b:+.3f}" for a, b in zip(row["training"], row["held_out"], strict=True))
        print(f"{row['kind']:9} seed {row['seed']}, {row['outer_steps']:5} steps, share {row['share']}: {figures}")
    record = {"steps": STEPS, "tasks": names, "rows": rows}
    logs = {name: x.tolist() for name, x in measured.items()}
    _STANDARD["write"]({**_STANDARD["about"](), **record, "log_losses": logs}, arguments.out / "record.json")
    plot(rows, arguments.out / "curve.png")


if __name__ == "__main__":
    main()
