"""A released optimizer beyond what it was made for: longer runs, larger models, other batch sizes.

Each case is judged by `meta_train.evaluation.protocol`, on three seeds, beside Adam and AdamW with cosine decay, both
tuned for the case, and Adam at 1e-3; `--untuned` leaves out the first two, for cases that would take hours. The data
come with scikit-learn. Writes JSON and a plot. Finished cases are kept: started again, it continues with the others.

    python benchmarks/beyond_range.py [NAME] [--out FILE] [--case CASE …] [--untuned] [--quick]
"""

import argparse
import pathlib
import runpy

import meta_train
from meta_train import data
from meta_train import tasks
from meta_train.cli import named_optimizer
from meta_train.evaluation import protocol
from meta_train.host import progress
from meta_train.host.cache_folder import cache_folder
from meta_train.training import engine

BASELINES = ("adam", "adamw-cosine", "adam-1e-3")
SEEDS = 3
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def _mlp(name, *hidden_sizes, batch_size=128):
    return lambda: tasks.mlp(name, data.load("digits"), hidden_sizes=hidden_sizes, batch_size=batch_size)


def _transformer():
    return tasks.transformer_language_model("docs-transformer-wide", data.load("sklearn_docs"), width=96, num_layers=2)


# Name: the task, and the number of steps. The first two are within the range, to compare with.
CASES = {
    "in range: 1,000 steps": (_mlp("digits-mlp", 32), 1000),
    "in range: 2,000 steps": (_mlp("digits-mlp", 32), 2000),
    "horizon: 10,000 steps": (_mlp("digits-mlp", 32), 10_000),
    "horizon: 20,000 steps": (_mlp("digits-mlp", 32), 20_000),
    "horizon: 100,000 steps": (_mlp("digits-mlp", 32), 100_000),
    "horizon: 50 steps": (_mlp("digits-mlp", 32), 50),
    "size: MLP of 176,000 parameters": (_mlp("digits-mlp-384", 384, 384), 500),
    "size: transformer of 240,000 parameters": (_transformer, 300),
    "batch: 8": (_mlp("digits-mlp", 32, batch_size=8), 1000),
    "batch: 32": (_mlp("digits-mlp", 32, batch_size=32), 1000),
    "batch: 1,024": (_mlp("digits-mlp", 32, batch_size=1024), 1000),
    "batch: 4,096": (_mlp("digits-mlp", 32, batch_size=4096), 1000),
}


def measure(name, case, num_steps, quick, untuned):
    """A row of the record."""
    make, steps = CASES[case]
    steps = num_steps or steps
    judged = protocol.judge(
        make(),
        named_optimizer.contender(name, ()),
        horizons=(steps,),
        num_seeds=1 if quick else SEEDS,
        baselines=("adam-1e-3",) if quick or untuned else BASELINES,
        pacemakers=(),
        cache=None if quick else cache_folder() / "evaluations",
    )[steps]
    rows = {
        result.plain_name: {
            "training_loss": float(result.final_losses.mean()),
            "by_seed": [float(loss) for loss in result.final_losses],
            "held_out_loss": float(result.held_out["loss"].mean()),
            "learning_rate": result.learning_rate,
            "first_loss": float(result.losses[:, 0].mean()),
        }
        for result in (*judged.contenders, *judged.baselines)
    }
    return {"case": case, "steps": steps, "optimizers": rows}


def table(rows):
    """Final training losses, and held-out losses in brackets."""
    names = list(rows[0]["optimizers"])
    lines = [["case", *names]]
    for row in rows:
        cells = (row["optimizers"][name] for name in names)
        lines.append([row["case"], *(f"{cell['training_loss']:.3g} ({cell['held_out_loss']:.3g})" for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def plot(rows, path):
    """A group of bars for each case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 1.3 * len(rows), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    names = list(rows[0]["optimizers"])
    for i, name in enumerate(names):
        heights = [max(row["optimizers"][name]["training_loss"], 1e-9) for row in rows]
        places = [k + (i - len(names) / 2) / (len(names) + 1) for k in range(len(rows))]
        panel.bar(places, heights, 1 / (len(names) + 1), label=name)
    panel.set(yscale="log", ylabel="final training loss")
    panel.set_xticks(range(len(rows)), [row["case"].replace(": ", ":\n") for row in rows], fontsize=7)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    """Measures the cases and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="default")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/beyond_range.json"))
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--untuned", action="store_true", help="beside Adam at 1e-3 alone")
    parser.add_argument("--quick", action="store_true", help="20 steps, one seed: a smoke test, not a measurement")
    arguments = parser.parse_args()
    meta_train.use_all_cores()
    engine.cache_compilations()
    steps = 20 if arguments.quick else None
    cases = progress.over(arguments.case, unit="case")
    rows = [measure(arguments.name, case, steps, arguments.quick, arguments.untuned) for case in cases]
    record = {"optimizer": arguments.name, "seeds": SEEDS, **_STANDARD["about"](), "results": rows}
    _STANDARD["write"](record, arguments.out)
    plot(rows, arguments.out.with_suffix(".png"))
    print(table(rows))


if __name__ == "__main__":
    main()
