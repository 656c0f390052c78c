"""What `adapt` gains on models in the style of their libraries' documentation, beside tuned AdamW and Muon.

The models are the files in benchmarks/adapt_models. Writes JSON, and beside it, for each model, the folder that `adapt`
makes. A run that was stopped goes on.

    python benchmarks/adapt.py [--model flax_cnn …] [--minutes 10] [--steps 1000] [--no-rivals] [--out FILE]
"""

import argparse
import pathlib
import runpy
import sys

import meta_train
from meta_train import adapt
from meta_train.adaptation import card
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


def main():
    """Adapts to each model and writes the record."""
    names = sorted(path.stem for path in MODELS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=10.0, help="for each model")
    parser.add_argument("--steps", type=int, help="of all models, in place of their own")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/adapt.json"))
    arguments = parser.parse_args()
    meta_train.use_all_cores()
    engine.cache_compilations()
    results = []
    for name in arguments.model:
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
        _STANDARD["write"]({"minutes": arguments.minutes, **_STANDARD["about"](), "results": results}, arguments.out)


if __name__ == "__main__":
    main()
