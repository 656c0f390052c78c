"""Kills a meta-training run many times, and checks that its result equals that of an undisturbed run.

    python benchmarks/kill_study.py [--kills 20] [--seed 0] [--out FILE]

Starts `fit` in a process of its own (PES on quadratics), kills it with SIGKILL, and resumes it, again and again. The
moment is drawn evenly from the seconds after its first dispatch, into a dispatch, a checkpoint or a line of
metrics. Then the run is finished and compared with an undisturbed one: theta bit for bit, and the metrics line
for line. Writes JSON: for each kill the outer steps that were logged, those that the last checkpoint
held, and the difference, which had to be made again.

Exits with status 1 if anything differs.
"""

import argparse
import json
import pathlib
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time

import jax
import optax

import learned_optim
import meta_train
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.host import progress
from meta_train.training import engine
from meta_train.unroll import truncation

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))

_OUT_OF_REACH = 10_000_000  # outer steps


def run(folder: pathlib.Path, num_steps: int, checkpoint_seconds: float) -> None:
    """The run that is killed: `num_steps` outer steps, including those that the folder holds."""
    meta_train.use_all_cores()
    engine.cache_compilations()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # so that a run starts soon
    optimizer = learned_optim.mlp((4,))
    problem = problems.optimizer_weights(optimizer, tasks.get("quadratic"))
    result = meta_train.fit(
        estimators.pes(problem, num_particles=64, unroll_length=20, horizon=truncation.log_uniform(20, 100)),
        optimizer.init(jax.random.key(0)),
        optax.adam(1e-3),
        num_steps=num_steps,
        run_dir=folder,
        resume=True,
        checkpoint_seconds=checkpoint_seconds,
        progress=False,
    )
    learned_optim.save(folder / "theta.safetensors", optimizer, result.theta)


def start(folder: pathlib.Path, num_steps: int, checkpoint_seconds: float) -> subprocess.Popen:
    """Starts `run` in a process of its own. What it prints goes to a file beside the folder."""
    command = [sys.executable, __file__, "--run", str(folder), str(num_steps)]
    with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [*command, "--checkpoint-seconds", str(checkpoint_seconds)], stdout=log, stderr=subprocess.STDOUT
        )


def finish(folder: pathlib.Path, num_steps: int, checkpoint_seconds: float) -> None:
    """Makes a run to its end."""
    process = start(folder, num_steps, checkpoint_seconds)
    if process.wait():
        log = folder.with_suffix(".log").read_text(encoding="utf-8")
        raise RuntimeError(f"a run ended with status {process.returncode}:\n{log}")


def logged(folder: pathlib.Path) -> int:
    """Whole lines in the metrics of a run."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saved(folder: pathlib.Path) -> int:
    """Outer steps of the last whole checkpoint of a run; what a kill left of an unfinished one has another name."""
    path = folder / "checkpoints"
    names = [entry.name for entry in path.iterdir()] if path.exists() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)


def kill(folder: pathlib.Path, checkpoint_seconds: float, delay: float) -> dict:
    """Starts a run, or goes on with it, and kills it `delay` seconds after its first dispatch.

    Returns:
      What the kill left, in outer steps: logged, saved in the last checkpoint, and the difference.
    """
    metrics = folder / "metrics.jsonl"
    before = metrics.stat().st_ino if metrics.exists() else None
    process = start(folder, _OUT_OF_REACH, checkpoint_seconds)
    try:
        while (not metrics.exists() or metrics.stat().st_ino == before) and process.poll() is None:
            time.sleep(0.001)  # until the file is replaced, which is the last act of a restoration
        held = logged(folder)
        while logged(folder) == held and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        process.kill()
    if process.wait() != -signal.SIGKILL:
        text = folder.with_suffix(".log").read_text(encoding="utf-8")
        raise RuntimeError(f"the run ended with status {process.returncode} before it could be killed:\n{text}")
    row = {"delay": round(delay, 3), "logged": logged(folder), "saved": saved(folder)}
    return {**row, "repeated": row["logged"] - row["saved"]}


def without_time(folder: pathlib.Path) -> list[dict]:
    """The metrics of a run, without the seconds that they took."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def study(kills: int, seed: int, longest: float, checkpoint_seconds: float, folder: pathlib.Path) -> dict:
    """Makes both runs and compares them.

    Args:
      kills: how often.
      seed: of the moments.
      longest: seconds from a run's first dispatch to the kill, at most.
      checkpoint_seconds: between two checkpoints.
      folder: for the files.
    """
    alone, killed = folder / "alone", folder / "killed"
    draw = random.Random(seed)
    delays = [draw.uniform(0, longest) for _ in range(kills)]
    rows = [kill(killed, checkpoint_seconds, delay) for delay in progress.over(delays, unit="kill")]
    num_steps = logged(killed) + 100
    finish(killed, num_steps, checkpoint_seconds)
    finish(alone, num_steps, checkpoint_seconds)
    metrics = without_time(killed)
    repeated = [row["repeated"] for row in rows]
    return {
        "kills": kills,
        "checkpoint_seconds": checkpoint_seconds,
        "num_steps": num_steps,
        "theta_equal": (killed / "theta.safetensors").read_bytes() == (alone / "theta.safetensors").read_bytes(),
        "every_step_once": [row["step"] for row in metrics] == list(range(1, num_steps + 1)),
        "metrics_equal": metrics == without_time(alone),
        "repeated": sum(repeated),
        "most_repeated_at_one_kill": max(repeated, default=0),
        "share_repeated": sum(repeated) / num_steps,
        "each_kill": rows,
    }


def main() -> None:
    """Makes the study and writes its record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/kill_study.json"))
    parser.add_argument("--kills", type=int, default=20, help="how often (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--longest", type=float, default=4.0, help="seconds to a kill (default: %(default)s)")
    parser.add_argument("--checkpoint-seconds", type=float, default=1.0, help="between two (default: %(default)s)")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        folder, num_steps = arguments.run
        run(pathlib.Path(folder), int(num_steps), arguments.checkpoint_seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        record = study(
            arguments.kills, arguments.seed, arguments.longest, arguments.checkpoint_seconds, pathlib.Path(folder)
        )
    print(*(f"{name}: {value}" for name, value in record.items() if name != "each_kill"), sep="\n")
    _STANDARD["write"]({**_STANDARD["about"](), **record}, arguments.out)
    if not (record["theta_equal"] and record["every_step_once"] and record["metrics_equal"]):
        sys.exit("kill_study: the run that was killed differs from the one that was left alone.")


if __name__ == "__main__":
    main()
