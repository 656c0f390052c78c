"""What `adapt` gains on models in the style of their libraries' documentation, beside tuned AdamW and Muon.

The models are the files in benchmarks/adapt_models. Writes JSON, and beside it, for each model, the folder that `adapt`
makes. Nothing is downloaded. A run that was stopped, by Ctrl-C or SIGTERM, goes on when the same command is given
again, also on another machine to which its folder was copied.

    python benchmarks/adapt.py [--only NAME …] [--minutes 10] [--steps 1000] [--no-rivals] [--out FILE]

Each run uses the cores that its process may run on, so several can share a machine:

    for i in 0 1; do taskset -c $((2 * i)),$((2 * i + 1)) python benchmarks/adapt.py --only … --out …/$i.json & done
    python benchmarks/adapt.py --join …/0.json …/1.json --out …/all.json
"""

import argparse
import json
import math
import pathlib
import runpy
import signal
import statistics
import sys

import meta_train
from meta_train import adapt
from meta_train.adaptation import card
from meta_train.host import parallel
from meta_train.training import engine

MODELS = pathlib.Path(__file__).parent / "adapt_models"
STEPS = {"flax_cnn": 500, "equinox_field": 1000, "heat_pinn": 1000, "haiku_rnn": 500}  # unless --steps is given
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def row(report):
    """What the record has of a report."""
    verdict = report["verdict"]
    kept = (
        "change",
        "error",
        "sure",
        "speedup",
        "default_steps",
        "adapted_steps",
        "speedup_on_the_way",
        "default_told_steps",
        "adapted_told_steps",
        "steps",
        "step_milliseconds",
    )
    chosen = [each["candidate"] for each in report["choice"] if each["chosen"]]
    return {
        "model": report["task"],
        "gain": report["gain"],
        "objective": report["objective"],
        "num_steps": report["num_steps"],
        "num_parameters": report["num_parameters"],
        "minutes_taken": report["minutes_taken"],
        "chosen": chosen[0] if chosen else "default",
        "search": report["search"],
        "calibration": report["calibration"],
        **{name: verdict[name] for name in kept},
        "results": verdict["results"],
    }


def join(files):
    """One record of several."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    results = [dict(result, machine=record["machine"]) for record in records for result in record["results"]]
    return records[0] | {"results": sorted(results, key=lambda result: result["model"])}


def as_tables(results):
    """What was gained, and the optimizers side by side, in Markdown."""
    gains = [["model", "parameters", "steps", "trainings", "taken", "loss, times the default's", "times as fast"]]
    rows = [["model", "optimizer", "held-out loss", "training loss", "steps to the default's loss", "seconds"]]
    for result in results:
        changes = [result["change"] + sign * result["error"] for sign in (0, -1, 1)]
        factor = "{:.3f} ({:.3f} to {:.3f})".format(*map(math.exp, changes))
        taken = result["chosen"] if result["gain"] else "default: no gain"
        sizes = (f"{result[key]:,}" for key in ("num_parameters", "num_steps"))
        fast = f"{result['speedup']:.2f}" if result["gain"] else "1"
        gains.append([result["model"], *sizes, f"{result['search']['trainings']:,}", taken, factor, fast])
        names = list(result["steps"])
        for name, each in zip(names, result["results"], strict=True):
            if f"{name.removesuffix(')')}, held out)" in names and result["objective"] == "held-out":
                continue  # its twin was chosen by the loss that counts
            steps, ms = result["steps"][name], result["step_milliseconds"][name]
            reached = ["never", ""] if steps is None else [f"{steps:,.0f}", f"{steps * ms / 1e3:.2g}"]
            losses = (statistics.mean(values) for values in (each["held_out"]["loss"], each["final_training_loss"]))
            rows.append([result["model"], each["optimizer"], *(f"{loss:.3g}" for loss in losses), *reached])
    tables = (["| " + " | ".join(row) + " |" for row in table] for table in (gains, rows))
    return "\n\n".join("\n".join([head, "|---" * (head.count("|") - 1) + "|", *rest]) for head, *rest in tables)


def stop(signum, frame):
    """Ends the work as Ctrl-C does."""
    raise KeyboardInterrupt


def main():
    """Adapts to each model and writes the record."""
    names = sorted(path.stem for path in MODELS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=10.0, help="for each model")
    parser.add_argument("--steps", type=int, help="of all models, in place of their own")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--join", nargs="+", type=pathlib.Path, metavar="FILE", help="records to join")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/adapt.json"))
    arguments = parser.parse_args()
    if arguments.join:
        record = join(arguments.join)
        _STANDARD["write"](record, arguments.out)
        print(as_tables(record["results"]))
        return
    meta_train.use_all_cores()
    engine.cache_compilations()
    signal.signal(signal.SIGTERM, stop)
    try:
        adapt_all(arguments)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        parallel.leave(130)


def adapt_all(arguments):
    """Adapts to one model after the other; the record is written after each."""
    about, results = _STANDARD["about"](), []
    for name in arguments.only:
        adapted = adapt(
            MODELS / f"{name}.py",
            minutes=arguments.minutes,
            num_steps=arguments.steps or STEPS[name],
            rivals=() if arguments.no_rivals else ("adamw-cosine", "muon"),
            out=arguments.out.with_suffix("") / name,
            resume=True,
            quiet=False,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
        print(f"\n{name}\n{card.as_text(adapted.report)}", flush=True)
        results.append(row(adapted.report))
        _STANDARD["write"]({"minutes": arguments.minutes, **about, "results": results}, arguments.out)


if __name__ == "__main__":
    main()
