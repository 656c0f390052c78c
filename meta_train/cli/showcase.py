"""The main job from end to end, in a few minutes: what `make demo` runs."""

import pathlib
import shutil
from typing import cast

import jax
import optax

import learned_optim
from meta_train import recipes
from meta_train import tasks
from meta_train.evaluation import evaluate
from meta_train.evaluation import report
from meta_train.host.counted import counted

NUM_STEPS, NUM_SEEDS, TASK = 500, 5, "digits-mlp"


def run(folder: pathlib.Path) -> None:
    """Runs the demo. It writes `my-optimizer.safetensors` and `compare.png` to the folder.

    A demo that was interrupted goes on with its meta-training; one that was finished starts anew.
    """
    task = tasks.get(TASK)
    _say(
        "1. The released optimizer, as a drop-in optax transformation",
        f"   tx = optax.chain(optax.clip_by_global_norm(1.0), learned_optimizer()), training {TASK}: an MLP on\n"
        f"   scikit-learn's digits. {counted(NUM_STEPS, 'step')}, {counted(NUM_SEEDS, 'seed')}, nothing tuned.",
    )
    released = optax.chain(optax.clip_by_global_norm(1.0), learned_optim.learned_optimizer(num_steps=NUM_STEPS))
    first = [
        evaluate.run(task, tx, num_steps=NUM_STEPS, num_seeds=NUM_SEEDS, name=name)
        for name, tx in (("learned_optimizer()", released), ("Adam 1e-3", optax.adam(1e-3)))
    ]
    print(report.table(first))

    recipe = recipes.get("demo")
    weights = counted(sum(leaf.size for leaf in jax.tree.leaves(recipe.theta)), "weight")
    run_dir, path = folder / "run", folder / "my-optimizer.safetensors"
    _say(
        "2. Meta-train an optimizer of your own",
        f"   The recipe meta_train/recipes/demo.py: a network of {weights}, shared by all parameters of the task,\n"
        f"   trained by persistent evolution strategies for {counted(recipe.num_steps, 'outer step')}.",
    )
    if path.exists():  # the last demo came to its end
        shutil.rmtree(run_dir, ignore_errors=True)
        path.unlink()
    result = recipes.run(recipe, run_dir=run_dir, resume=True)
    learned_optim.save(path, cast(learned_optim.LearnedOptimizer, recipe.optimizer), result.theta)
    optimizer, theta = learned_optim.load(path)

    _say("3. Compare", f"   Everything on {TASK}, on seeds that no meta-training and no tuning used.")
    contenders = {
        "yours": optimizer.transform(theta),
        "yours, before meta-training": optimizer.transform(recipe.theta),
        "learned_optimizer()": released,
    }
    results = evaluate.compare(task, contenders, num_steps=NUM_STEPS, num_seeds=NUM_SEEDS, progress=print)
    report.plot({TASK: results}, folder / "compare.png")
    print(f"\n{report.table(results)}\n")
    print(f"The curves are in {folder / 'compare.png'}, your optimizer in {path}. Use it:\n")
    print(f"   optimizer, theta = learned_optim.load('{path}')")
    print("   tx = optimizer.transform(theta)   # an optax transformation")


def _say(title, text):
    print(f"\n{title}\n{text}\n", flush=True)
