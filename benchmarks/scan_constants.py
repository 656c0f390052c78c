"""What the constants of `adaptive_muon` before meta-training are worth: its losses with some of them changed.

The prior, theta before meta-training, and candidates with other values of some constants are trained side by side, in
one program for each task. Beside them are `prodigy-muon-schedule-v1`, and AdamW and Muon with cosine decay and the best
of seven rates, by training loss and by held-out loss. A change is the mean over tasks and numbers of steps of
log(loss / loss of the prior), cut at ±.7 so that no task decides alone. Seeds are those that rates are tuned on. Writes
JSON and a plot.

    python benchmarks/scan_constants.py [--task NAME …] [--steps 200 1000] [--seeds 2]
        [--change omega=.006 q_expansion=2,omega=.001 …] [--without-num-steps] [--data-dir FOLDER] [--out FILE]

Each argument of --change is a candidate. Without --change there are two for each constant: moved down and moved up.
"""

import argparse
from collections.abc import Callable
import functools
import math
import operator
import pathlib
import runpy
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import learned_optim
from learned_optim import nearest
from learned_optim import optimizers
from learned_optim.optimizers.adaptive_muon import TensorFeatures
import meta_train
from meta_train import data
from meta_train import tasks
from meta_train.evaluation import lanes
from meta_train.evaluation.baselines import BASELINES
from meta_train.host import progress
from meta_train.tasks import suites
from meta_train.training import engine

_RATES = (3e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
RATES = {"adamw-cosine": _RATES[:-1], "muon": _RATES[1:]}
REFERENCES = ("prodigy-muon-schedule-v1", *(f"{key}, best {by}" for key in RATES for by in ("training", "held out")))
_FLOOR = 1e-8  # smaller losses count as equal, and so do losses above its inverse
_CUT = 0.7  # of the change on a single task
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
LARGE = runpy.run_path(str(pathlib.Path(__file__).parent / "step_scales.py"))["LARGE"]


class Constant(NamedTuple):
    """A constant of theta."""

    path: tuple[str, ...]  # keys of the leaf
    index: tuple[int, ...]  # place in the leaf; () for scalars
    bounds: str  # of the value
    encode: Callable[[float], float]  # value -> number in theta
    decode: Callable[[float], float]  # number in theta -> value
    move: float  # how far the scan moves the number in theta, down and up


_POSITIVE = ("positive", math.log, math.exp)
_SHARE = ("between 0 and 1", lambda share: math.log(share / (1 - share)), lambda logit: 1 / (1 + math.exp(-logit)))
_PLAIN = ("a number", float, float)
CONSTANTS = {
    "lookahead": Constant(("lookahead",), (), *_SHARE, 0.6),  # λ
    "omega": Constant(("decay", "base"), (), *_POSITIVE, math.log(3.0)),
    "first_matrix": Constant(("control", "first"), (0,), *_POSITIVE, math.log(2.0)),  # initial D / size
    "first_vector": Constant(("control", "first"), (1,), *_POSITIVE, math.log(2.0)),
    "gain": Constant(("control", "gain"), (), *_POSITIVE, math.log(2.0)),
    "bias": Constant(("control", "bias"), (), *_PLAIN, 0.2),
    "onset": Constant(("control", "onset"), (), *_POSITIVE, math.log(2.0)),
    "rise": Constant(("control", "rates"), (0,), *_POSITIVE, math.log(2.0)),
    "fall": Constant(("control", "rates"), (1,), *_POSITIVE, math.log(2.0)),
    "exponent": Constant(("unknown_horizon", "exponent"), (), *_PLAIN, 0.2),  # matters --without-num-steps
}
for _place, _feature in enumerate(TensorFeatures._fields):
    CONSTANTS[f"k_{_feature}"] = Constant(("step",), (_place,), *_PLAIN, 0.3)
    CONSTANTS[f"q_{_feature}"] = Constant(("decay", "skip"), (_place,), *_PLAIN, 0.7)
# Constants that the scan does not move: they change nothing, or only what first_matrix, first_vector or omega change.
_IDLE = {"k_known", "q_known", "q_is_vector"}


def changed(theta, **values):
    """Theta with other values of some constants. Raises a ValueError for unknown names and for values out of range."""
    theta = jax.tree.map(lambda leaf: leaf, theta)  # new dictionaries
    for name, value in values.items():
        if name not in CONSTANTS:
            hint = nearest.hint(name, CONSTANTS)
            raise ValueError(f"there is no constant {name!r}. {hint}Choose from {', '.join(CONSTANTS)}.")
        constant = CONSTANTS[name]
        try:
            number = constant.encode(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{name} must be {constant.bounds}, got {value:g}.") from None
        *path, last = constant.path
        parent = functools.reduce(operator.getitem, path, theta)
        parent[last] = parent[last].at[constant.index].set(number)
    return theta


def one_at_a_time(theta):
    """Name of each candidate -> the constant that it moves down or up, and the new value."""
    made = {}
    for name, constant in CONSTANTS.items():
        number = float(functools.reduce(operator.getitem, constant.path, theta)[constant.index])
        for moved in (number - constant.move, number + constant.move):
            value = round(float(f"{constant.decode(moved):.3g}"), 6) + 0.0  # not -0
            made[f"{name}={value:g}"] = {name: value}
    return {candidate: values for candidate, values in made.items() if not _IDLE & values.keys()}


# Tasks with few examples, which models learn by heart, as larger models do with more of them. Name: data set, height of
# the pictures, number for training, share of wrong labels among these, `(name, data set) -> task`.
_perceptron = functools.partial(tasks.mlp, hidden_sizes=(64, 64))
STAND_INS: dict[str, tuple[Any, ...]] = {
    "digits-few": ("digits", 8, 300, 0.0, _perceptron),
    "f2k-mlp": ("fashion_mnist", 8, 2000, 0.0, _perceptron),
    "f2k-mlp-noisy": ("fashion_mnist", 8, 2000, 0.2, _perceptron),
    "f2k-conv": ("fashion_mnist", 14, 2000, 0.0, functools.partial(tasks.convnet, channels=(12, 16), batch_size=32)),
    "f2k-vit": ("fashion_mnist", 8, 2000, 0.1, functools.partial(tasks.vision_transformer, width=24)),
}
_USUAL = ("digits-wide", "iris-mlp", "diabetes-deep", "quadratic-noisy", "mnist-softmax", "energy-mlp", "kin40k-mlp")


def usual_tasks(data_dir):
    """The tasks of a scan unless others are named: those of `_USUAL` and `STAND_INS` whose data are there."""
    needs = {name: source.name for name in _USUAL if (source := suites.source(name))}
    needs |= {name: source for name, (source, *_) in STAND_INS.items()}
    return [name for name in (*_USUAL, *STAND_INS) if name not in needs or data.available(needs[name], data_dir)]


def get_task(name, data_dir):
    """A task by name."""
    if name not in STAND_INS:
        return LARGE[name][0](data_dir) if name in LARGE else tasks.get(name, data_dir=data_dir)
    source, size, num_train, wrong, build = STAND_INS[name]
    whole, rng = data.load(source, size=size, data_dir=data_dir), np.random.default_rng(0)
    train, held_out = rng.permutation(len(whole.train_y))[:num_train], rng.permutation(len(whole.test_y))[:500]
    labels, replaced = whole.train_y[train], rng.random(num_train) < wrong
    labels[replaced] = rng.integers(data.num_classes(whole), size=replaced.sum())
    return build(name, data.Dataset(whole.train_x[train], labels, whole.test_x[held_out], whole.test_y[held_out]))


def measure(name, thetas, arguments):
    """Losses on a task: for each candidate and reference float64[2, steps], training and held-out."""
    task, seeds = get_task(name, arguments.data_dir), arguments.seeds
    starts = lanes.starter(task).begin(lanes.keys(seeds, lanes.TUNE))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas.values())
    told = lambda num_steps: num_steps if arguments.told else None
    released = lambda _, num_steps: learned_optim.learned_optimizer(REFERENCES[0], num_steps=told(num_steps))

    def candidate(index, num_steps):
        theta = jax.tree.map(lambda leaf: leaf[jnp.asarray(index, jnp.int32)], stacked)
        return optimizers.KINDS["adaptive_muon"]().transform(theta, num_steps=told(num_steps))

    def losses(make, points):  # float64[2, points, steps], geometric means over the seeds
        program = lanes.build(task, make, width=len(points) * seeds, size=max(arguments.steps))
        start = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(points)), starts)
        runs = [program.train(np.repeat(points, seeds), start, (steps,), steps) for steps in arguments.steps]
        made = [(lanes.final_losses(training), held_out["loss"][0]) for training, held_out in runs]
        made = np.clip(np.nan_to_num(np.array(made, np.float64), nan=np.inf), _FLOOR, 1.0 / _FLOOR)
        return np.exp(np.log(made).reshape(-1, 2, len(points), seeds).mean(axis=-1)).transpose(1, 2, 0)

    rows = dict(zip(thetas, losses(candidate, range(len(thetas))).swapaxes(0, 1), strict=True))
    references = [losses(released, [0])[:, 0]]
    for key, rates in RATES.items():
        made = losses(BASELINES[key].make, rates)
        references += [made[:, part.argmin(axis=0), np.arange(len(arguments.steps))] for part in made]
    return rows | dict(zip(REFERENCES, references, strict=True))


def summarize(losses):
    """Rows of the record, from float64[2, columns] each: prior and candidates, the best ones first, then references."""
    rows = []
    for name, both in losses.items():
        changes = np.clip(np.log(both / losses["prior"]), -_CUT, _CUT).mean(axis=1)
        row = {"name": name, "training_change": changes[0], "held_out_change": changes[1]}
        rows.append({**row, "training_loss": both[0].tolist(), "held_out_loss": both[1].tolist()})
    return sorted(rows, key=lambda row: (row["name"] in REFERENCES, row["training_change"] + row["held_out_change"]))


def table(results, columns):
    """Rows of the record: the changes, then training / held-out loss in each column."""
    lines = [["", "change: training", "held out", *columns]]
    for row in results:
        figures = [f"{row['training_change']:+.3f}", f"{row['held_out_change']:+.3f}"]
        figures += [f"{a:.3g} / {b:.3g}" for a, b in zip(row["training_loss"], row["held_out_loss"], strict=True)]
        lines.append([row["name"], *figures])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def plot(results, path):
    """A point for each row: the changes of its training and of its held-out loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row in results:
        place = row["training_change"], row["held_out_change"]
        axes.plot(*place, "rx" if row["name"] in REFERENCES else "b.")
        axes.annotate(row["name"], place, xytext=(3, 3), textcoords="offset points", fontsize=6)
    axes.grid(color="0.9")
    axes.set(xlabel="training: mean log(loss / loss of the prior)", ylabel="held out: the same")
    figure.savefig(path, dpi=120)


def _change(text):
    try:
        return text, {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER,NAME=NUMBER…, got {text!r}.") from None


def main():
    """Measures every task and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=[*tasks.suite("validation"), *STAND_INS, *LARGE], metavar="NAME")
    parser.add_argument("--steps", nargs="+", type=int, default=[200, 1000])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--change", nargs="+", type=_change, metavar="NAME=NUMBER", help=", ".join(CONSTANTS))
    parser.add_argument("--without-num-steps", dest="told", action="store_false", help="do not tell it")
    parser.add_argument("--data-dir", metavar="FOLDER")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/scan_constants.json"))
    parser.add_argument("--quick", action="store_true", help="20 steps, one seed: a smoke test, not a measurement")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.seeds = [20], 1
    meta_train.use_all_cores()
    engine.cache_compilations()
    prior = optimizers.KINDS["adaptive_muon"]().init(jax.random.key(0))
    changes = dict(arguments.change) if arguments.change else one_at_a_time(prior)
    try:
        thetas = {"prior": prior} | {name: changed(prior, **values) for name, values in changes.items()}
    except ValueError as error:
        parser.error(str(error))
    names = arguments.task or usual_tasks(arguments.data_dir)
    measured = [measure(name, thetas, arguments) for name in progress.over(names, unit="task")]
    results = summarize({name: np.concatenate([rows[name] for rows in measured], axis=1) for name in measured[0]})
    columns = [f"{name}, {steps} steps" for name in names for steps in arguments.steps]
    record = {"told": arguments.told, "seeds": arguments.seeds, "columns": columns, "changes": changes}
    _STANDARD["write"]({**record, **_STANDARD["about"](), "results": results}, arguments.out)
    plot(results, arguments.out.with_suffix(".png"))
    print(table(results, columns))


if __name__ == "__main__":
    main()
