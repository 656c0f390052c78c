"""A released optimizer in the combinations that users need: clipping, weight decay, masks, accumulation.

Each trains scikit-learn's digits (`digits-wide` of the suite validation, MLP 64-128-10) for 1,000 steps from the same
five seeds; with accumulation, two minibatches make an update. Writes JSON and prints a table.

    python benchmarks/combinations.py [NAME] [--out FILE] [--quick]
"""

import argparse
import pathlib
import runpy

import jax
import optax

import learned_optim
import meta_train
from meta_train import tasks
from meta_train.evaluation import evaluate
from meta_train.host import progress
from meta_train.training import engine

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


def _matrices(params):
    return jax.tree.map(lambda param: param.ndim > 1, params)


def combinations(name: str, num_steps: int) -> dict[str, optax.GradientTransformation]:
    """The transformations, by what they are."""
    make = lambda steps=num_steps, **options: learned_optim.learned_optimizer(name, num_steps=steps, **options)
    accumulating = optax.MultiSteps(make(max(1, num_steps // 2)), 2)
    return {
        "alone": make(),
        "clip_by_global_norm(1.0) before it": optax.chain(optax.clip_by_global_norm(1.0), make()),
        "weight_decay=1e-4": make(weight_decay=1e-4),
        "weight_decay=1e-3": make(weight_decay=1e-3),
        "weight_decay=1e-3 on matrices alone": make(weight_decay=1e-3, mask=_matrices),
        "MultiSteps(…, 2), half as many updates": accumulating.gradient_transformation(),
        "apply_if_finite(…, 10)": optax.apply_if_finite(make(), 10),
        "moment_dtype=bfloat16": make(moment_dtype="bfloat16"),
        "step_scale=0.5": make(step_scale=0.5),
    }


def main() -> None:
    """Runs all combinations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="default")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/combinations.json"))
    parser.add_argument("--quick", action="store_true", help="200 steps, two seeds: a smoke test, not a measurement")
    arguments = parser.parse_args()
    meta_train.use_all_cores()
    engine.cache_compilations()
    steps, seeds = (200, 2) if arguments.quick else (1000, 5)
    task, rows = tasks.get("digits-wide"), {}
    for title, tx in progress.over(combinations(arguments.name, steps).items(), unit="run"):
        result = evaluate.run(task, tx, num_steps=steps, num_seeds=seeds)
        rows[title] = {
            "training_loss": float(result.final_losses.mean()),
            "by_seed": [float(loss) for loss in result.final_losses],
            **{f"held_out_{key}": float(values.mean()) for key, values in result.held_out.items()},
        }
    record = {**_STANDARD["about"](), "optimizer": arguments.name, "steps": steps, "seeds": seeds, "results": rows}
    _STANDARD["write"](record, arguments.out)
    print(f"{'':40} {'training loss':>14} {'held-out loss':>14} {'held-out accuracy':>18}")
    for title, row in rows.items():
        losses = f"{row['training_loss']:14.3g} {row['held_out_loss']:14.3g}"
        print(f"{title:40} {losses} {row['held_out_accuracy']:18.3f}")


if __name__ == "__main__":
    main()
