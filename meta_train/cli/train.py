"""`meta-train train`."""

import inspect
import json
import math
import pathlib
import shlex
import textwrap
from typing import Annotated

import typer

import learned_optim
from meta_train import recipes
from meta_train.cli import named_optimizer
from meta_train.cli import named_outer
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import stopping
from meta_train.host import distributed
from meta_train.host import user_code
from meta_train.host.counted import counted
from meta_train.recipes.few_shot import theta_file
from meta_train.training import run_folder


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a Python file with one.")],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(parser=options.path, metavar="PATH", help="Folder of the run.  [default: runs/RECIPE]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Outer steps.  [default: the recipe's]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.  [default: the recipe's]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    outer: Annotated[
        str | None, typer.Option(help=f"Outer optimizer: {named_outer.FORMS}.  [default: the recipe's]")
    ] = None,
    step_scale: Annotated[
        float | None, typer.Option(help="With --outer: a factor on the steps of a learned outer optimizer.")
    ] = None,
    max_step: Annotated[float | None, typer.Option(help="With --outer: largest norm of a step of theta.")] = None,
    trust_ratio: Annotated[
        float | None, typer.Option(help="With --outer: largest step of a tensor of theta, as a share of its norm.")
    ] = None,
    max_rise: Annotated[
        float | None, typer.Option(help="With --outer: go back to the best theta if the meta-loss rises by more.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")] = False,
    num_processes: Annotated[int, typer.Option(min=1, help="Processes that share the run.")] = 1,
    coordinator: Annotated[str | None, typer.Option(help="HOST:PORT of process 0.")] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="Which of the processes this is.")] = None,
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
):
    """Meta-train a recipe. Writes theta.safetensors, metrics.jsonl and checkpoints to the folder.

    Stop it with Ctrl-C at any time, and continue with --resume.

    --outer replaces the recipe's outer optimizer: by AdamW, a learned optimizer, theta itself (live), or a population
    of random initializations that train each other. See docs/self-training.md.

    --num-processes alone starts that many processes on this machine. For several machines, start one process on each,
    with the same --coordinator, its own --process-id, and a folder that all of them share.

    Example: python -m meta_train train demo --out runs/mine
    """
    options.use_data_dir(data_dir)
    bounds = {"step_scale": step_scale, "max_step": max_step, "trust_ratio": trust_ratio, "max_rise": max_rise}
    _check_pairs(coordinator, process_id, outer, bounds)
    if outer is not None:
        named_outer.check(outer, **bounds)
    recipes.check(recipe)
    out = out or pathlib.Path("runs") / pathlib.Path(recipe).stem
    outputs.check_folder(out)
    if process_id is None:  # of several processes, the first may be quick to write what another one would find here
        run_folder.check(out, resume=resume)
    if process_id is not None and coordinator is not None:
        distributed.initialize(coordinator, num_processes, process_id)
    elif num_processes > 1:
        raise typer.Exit(distributed.launch(context.obj, num_processes))
    with user_code.told(recipe):
        chosen = recipes.get(recipe, num_steps=steps, seed=seed)
    if outer is not None:
        made = named_outer.build(outer, chosen.optimizer, chosen.num_steps, **bounds)
        chosen = chosen._replace(outer_optimizer=made, share=1.0)  # the share was chosen for the recipe's own
    with stopping.resumable(out, sigterm=process_id is None), user_code.told(recipe):
        result = recipes.run(chosen, run_dir=out, resume=resume, tensorboard=tensorboard, progress=not quiet)
    if not distributed.is_main():
        return
    path = out / named_optimizer.THETA_FILE
    if chosen.optimizer is None:
        theta_file.save_theta(path, result.theta)
    else:
        learned_optim.save(path, chosen.optimizer, result.theta)
    losses = [row["loss"] for row in result.metrics]
    if as_json:
        made = {"recipe": recipe, "run": str(out), "theta": str(path), "steps": len(losses), "loss": _mean(losses)[0]}
        print(json.dumps(made))
        return
    print(_last_losses(losses))
    print(f"Wrote {path}.{_next(chosen, path)}")


def train_help() -> str:
    """The help of the command: its docstring, and the recipes that there are."""
    lines = [
        textwrap.fill(f"{name}: {text}", 76, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        for name, text in recipes.descriptions().items()
    ]
    text = inspect.cleandoc(train.__doc__ or "")
    title = "Recipes, with the outer steps that they make unless --steps says otherwise; all have seed 0:"
    # \b: the lines stay as they are.
    return f"{text}\n\n{title}\n\n\b\n" + "\n".join(lines)


def _next(recipe, path):
    """What to do with the file."""
    if recipe.optimizer is None:
        return " meta_train.recipes.few_shot.load_theta(path, recipe.theta) reads it."
    return f" Next: python -m meta_train evaluate {shlex.quote(str(path))}"


def _last_losses(losses):
    """A line about the last twentieth of the outer steps."""
    mean, number, left_out = _mean(losses)
    steps = counted(number, "outer step")
    if mean is None:
        return f"The meta-loss is not finite in the last {steps}."
    if left_out:
        which = f"{left_out} that {'is' if left_out == 1 else 'are'} not finite"
        return f"Mean meta-loss of the last {steps}, without {which}: {mean:.3f}"
    return f"Mean meta-loss of the last {steps}: {mean:.3f}"


def _mean(losses):
    """The mean over the last twentieth, None if none is finite; of how many; and how many of them are not finite."""
    last = losses[-max(1, len(losses) // 20) :]
    finite = [loss for loss in last if math.isfinite(loss)]
    return (sum(finite) / len(finite) if finite else None), len(last), len(last) - len(finite)


def _check_pairs(coordinator, process_id, outer, bounds):
    if (coordinator is None) != (process_id is None):
        raise ValueError("--coordinator and --process-id go together: give both, or neither to stay on this machine.")
    if outer is None and any(bound is not None for bound in bounds.values()):
        raise ValueError(
            "--step-scale, --max-step, --trust-ratio and --max-rise are for what --outer names: give --outer as well."
        )
