"""How learned optimizers are judged: beside tuned and tuning-free baselines, on tasks they were not trained on.

For each task every optimizer runs from the same seeds. Learning rates of the baselines are tuned for the task and the
horizon, on other seeds. Speedups come from runs of the tuned baselines over shorter and longer horizons, at that rate.
What a baseline gave is kept on disk as soon as it is there, so that an evaluation that was stopped goes on with what
is missing, and baselines are run once for all optimizers that are compared to them. Only the optimizers that are judged
run again, which is the smallest part.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import os
import pathlib
import tempfile
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

from meta_train import evaluate
from meta_train import scores
from meta_train.baselines import BASELINES
from meta_train.baselines import Baseline
from meta_train.evaluate import Result
from meta_train.tasks.base import Task

# Baselines that speedups are measured against.
PACEMAKERS = ("adam", "adamw-cosine")


class Judgement(NamedTuple):
    """What came out on one task.

    Fields:
      contenders: results of the optimizers that are judged, in the order given.
      baselines: results of the baselines; names of tuned ones tell the rate.
      speedups: for each pacemaker float[contenders, seeds], see `scores.speedup`.
    """

    contenders: list[Result]
    baselines: list[Result]
    speedups: dict[str, np.ndarray]


def judge(
    task: Task,
    contenders: Mapping[str, optax.GradientTransformation],
    *,
    num_steps: int,
    num_seeds: int = 5,
    baselines: Sequence[str] = tuple(BASELINES),
    cache: str | os.PathLike | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Judgement:
    """Judges optimizers on one task.

    Args:
      task: what to train.
      contenders: names and transformations, made for num_steps.
      num_steps: updates to make.
      num_seeds: independent runs of each.
      baselines: names from `BASELINES`. Speedups are given against those of "adam" and "adamw-cosine" among them.
      cache: folder that keeps what the baselines gave; None keeps nothing. What is kept is found again only for the
        same compiled program, data and seeds.
      progress: called with a line of text before each piece of work.

    Raises:
      ValueError: if num_steps or num_seeds is below 1, or there is no such baseline.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> task = tasks.get("quadratic")
      >>> found = judge(task, {"sgd": optax.sgd(0.1)}, num_steps=20, num_seeds=2, baselines=["adam-1e-3"])
      >>> [result.optimizer for result in (*found.contenders, *found.baselines)]
      ['sgd', 'Adam 1e-3']
    """
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise ValueError(f"there is no baseline {unknown[0]!r}. Choose from {', '.join(BASELINES)}.")
    own, rivals = [], []
    for name, tx in contenders.items():
        progress(f"{task.name}: {name}")
        own.append(evaluate.run(task, tx, num_steps=num_steps, num_seeds=num_seeds, name=name))
    speedups = {}
    for key in baselines:
        baseline, rate = BASELINES[key], None
        if baseline.tuned:
            progress(f"{task.name}: {baseline.name}, {len(evaluate.LEARNING_RATES)} learning rates")
            rate = _tuned(task, baseline, num_steps, cache)
        progress(f"{task.name}: {baseline.name}")
        rivals.append(_run(task, baseline, rate, num_steps, num_seeds, cache))
        if key in PACEMAKERS and own:
            progress(f"{task.name}: {baseline.name}, other horizons")
            finals = _over_the_ladder(task, baseline, rivals[-1], num_steps, num_seeds, cache)
            speedups[key] = np.stack([scores.speedup(result.final_losses, finals) for result in own])
    return Judgement(own, rivals, speedups)


def _tuned(task, baseline, num_steps, cache):
    rates = evaluate.LEARNING_RATES
    make = lambda rate: baseline.make(rate, num_steps)

    def tune():
        rate = evaluate.tune(task, make, num_steps=num_steps, learning_rates=rates)
        return {"rate": np.asarray(rate)}

    key = lambda: _key(task, baseline, num_steps, ("tune", *rates))
    return float(_remember(cache, key, tune)["rate"])


def _run(task, baseline, rate, num_steps, num_seeds, cache):
    tx = baseline.make(rate, num_steps)
    name = baseline.name if rate is None else baseline.name.replace("(tuned)", f"{rate:g} (tuned)")

    def run():
        result = evaluate.run(task, tx, num_steps=num_steps, num_seeds=num_seeds, judged=baseline.judged)
        held_out = {f"held_out/{metric}": values for metric, values in result.held_out.items()}
        times = {
            "step_milliseconds": np.asarray(result.step_milliseconds),
            "state_bytes": np.asarray(result.state_bytes),
        }
        return {"losses": result.losses, **held_out, **times}

    kept = _remember(cache, lambda: _key(task, baseline, num_steps, ("run", rate, num_seeds)), run)
    held_out = {key.partition("/")[2]: values for key, values in kept.items() if key.startswith("held_out/")}
    return Result(name, kept["losses"], held_out, rate, float(kept["step_milliseconds"]), int(kept["state_bytes"]))


def _over_the_ladder(task, baseline, usual, num_steps, num_seeds, cache):
    """Final losses float[rungs, seeds] of a tuned baseline over the ladder; `usual` is its run of num_steps."""
    run = lambda steps: _run(task, baseline, usual.learning_rate, steps, num_seeds, cache)
    rungs = [max(1, round(rung * num_steps)) for rung in scores.LADDER]
    if baseline.scheduled:
        return np.stack([(usual if steps == num_steps else run(steps)).final_losses for steps in rungs])
    longest = run(rungs[-1]).losses
    return np.stack([evaluate.final_losses(longest[:, :steps]) for steps in rungs])


def _key(task: Task, baseline: Baseline, num_steps: int, rest: tuple[Any, ...]) -> str:
    """Names the outcome of a computation, by the program that makes it and all that goes in."""
    program = evaluate.lowered(task, lambda rate: baseline.make(rate, num_steps), num_steps, baseline.judged).as_text()
    digest = hashlib.sha256(program.encode())
    for leaf in jax.tree.leaves(task.data):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    digest.update(repr((jax.__version__, *rest)).encode())
    return f"{task.name}-{digest.hexdigest()[:32]}"


def _remember(cache, make_key, compute):
    """Arrays from the cache, or else computed and put there, complete or not at all."""
    if cache is None:
        return compute()
    path = pathlib.Path(cache) / f"{make_key()}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return dict(kept)
    arrays = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez_compressed(file, **arrays)
    os.replace(file.name, path)
    return arrays
