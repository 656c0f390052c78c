"""Self-training studied: outer AdamW against learned optimizers that are frozen, live, or in a population.

    python benchmarks/self_training.py [--out FILE] [--case NAME …] [--seeds N] [--devices N] [--quick]

The case: theta of a small optimizer is trained on digits 8×8, MLP 64-32-10, batch 128, episodes of 200 steps, with NRES
(8 pairs, windows of 50, σ = .02). `adam_residual` begins as Adam with a learned rest, `mlp` with nothing but noise.

Outer optimizers, all with the same budget of inner steps:

- AdamW with warm-up and cosine decay, with the best of five rates;
- the released `adam-residual-schedule-v1`, frozen (the default when docs/self-training.md was measured), with the best
  of three factors on its steps, and without a factor;
- theta itself, live: without safeguards, and guarded with the best of three factors;
- a population of five that train each other, guarded, with the same factor; each member has a fifth of the outer steps.

Rates and factors are chosen on two seeds that are not reported. Frozen and guarded also run with 1.5 times the outer
steps, to see how many they need to reach AdamW's final meta-loss. Twelve times in a run the meta-loss is measured, on
16 fixed episodes.

Writes JSON and a plot beside it. Finished runs are kept: started again, it continues. `--quick` is a smoke test.

Longer than 300 lines: one study, whose runs, summary, table and plot share the same few types.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import functools
import json
import os
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
import meta_train
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.host import progress
from meta_train.host.counted import counted
from meta_train.outer import safeguards
from meta_train.outer import self_training
from meta_train.training import engine
from meta_train.unroll import truncation

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
CASES = {
    "adam_residual": lambda: learned_optim.adam_residual(hidden_size=4),
    "mlp": lambda: learned_optim.mlp((8,)),
}
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SCALES = (1.0, 0.3, 0.1)
FROZEN = "adam-residual-schedule-v1"  # the default when docs/self-training.md was measured, an `adam_residual` too
TUNING_SEEDS = (1000, 1001)
MEMBERS = 5
GUARDS = {"max_step": 0.3, "max_rise": 0.3, "window": 10}


class Sizes(NamedTuple):
    """What a run trains on, and how large it is."""

    task: str = "digits-mlp"
    outer_steps: int = 240
    measurements: int = 12
    pairs: int = 8
    horizon: int = 200
    window: int = 50
    episodes: int = 16


QUICK = Sizes(task="quadratic", outer_steps=20, measurements=2, pairs=2, horizon=4, window=2, episodes=2)


class Run(NamedTuple):
    """One run of the study."""

    case: str
    outer: str  # "adamw 0.003", "frozen 0.1", "live 0.1", "guarded 0.1", …: kind, and rate or factor
    seed: int
    share: float = 1.0  # of the budget

    @property
    def key(self) -> str:
        """Its name in the record."""
        return f"{self.case}, {self.outer}, seed {self.seed}, budget {self.share:g}"


def outer_optimizer(outer: str, optimizer: learned_optim.LearnedOptimizer, num_steps: int) -> Any:
    """What moves theta. All skip steps that are not finite; two kinds have other safeguards too."""
    kind, number = outer.split()
    guard = functools.partial(safeguards.safeguarded, **(GUARDS if kind in ("guarded", "population") else {}))
    if kind == "population":
        return self_training.population(
            optimizer,
            num_members=MEMBERS,
            interval=max(1, num_steps // 12),
            num_steps=num_steps,
            step_scale=float(number),
            safeguard=guard,
        )
    if kind == "adamw":
        tx = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, float(number), num_steps // 20, num_steps))
    elif kind == "frozen":
        released = learned_optim.load_pretrained(FROZEN)
        tx = self_training.frozen(*released, num_steps=num_steps, step_scale=float(number))
    else:
        tx = self_training.live(optimizer, num_steps=num_steps, step_scale=float(number))
    return optax.chain(optax.clip_by_global_norm(1.0), guard(tx))


def meta_loss(problem: meta_train.Problem, sizes: Sizes) -> Callable[[Any], float]:
    """A function of theta: the mean loss of whole episodes, the same ones at each call."""

    def episode(key, theta, data):
        init_key, step_key = jax.random.split(key)
        state = problem.init(init_key, theta, jnp.asarray(sizes.horizon, jnp.int32))
        keys = jax.random.split(step_key, sizes.horizon)
        return jnp.mean(jax.lax.scan(lambda state, key: problem.step(key, theta, state, data), state, keys)[1])

    keys = jax.random.split(jax.random.key(7), sizes.episodes)
    mean = jax.jit(lambda theta, data: jnp.mean(jax.vmap(episode, (0, None, None))(keys, theta, data)))
    return lambda theta: float(mean(theta, problem.data))


@functools.cache
def trained(case: str, sizes: Sizes) -> tuple[learned_optim.LearnedOptimizer, meta_train.Problem, Any]:
    """What all runs of a case share: optimizer, problem, measurement."""
    optimizer = CASES[case]()
    problem = problems.optimizer_weights(optimizer, tasks.get(sizes.task))
    return optimizer, problem, meta_loss(problem, sizes)


@functools.cache
def compiled(case: str, outer: str, share: float, sizes: Sizes, num_devices: int) -> Any:
    """What runs of all seeds share: optimizer, engine, outer steps between measurements, measurement."""
    optimizer, problem, measure = trained(case, sizes)
    estimator = estimators.nres(
        problem,
        num_particles=sizes.pairs,
        unroll_length=sizes.window,
        horizon=truncation.constant(sizes.horizon),
        std=0.02,
    )
    members = MEMBERS if outer.startswith("population") else 1
    every = round(sizes.outer_steps * share) // members // sizes.measurements
    mover = outer_optimizer(outer, optimizer, every * sizes.measurements)
    made = engine.build([estimator], mover, steps_per_dispatch=every, devices=jax.devices()[:num_devices])
    return optimizer, made, every, measure


def carry_out(run: Run, sizes: Sizes, num_devices: int) -> dict[str, Any]:
    """Makes a run; returns its curve and figures."""
    optimizer, made, every, measure = compiled(run.case, run.outer, run.share, sizes, num_devices)
    state = made.init(optimizer.init(jax.random.key(run.seed)), run.seed)
    thetas = [state.theta]
    if run.outer.startswith("population"):
        members = state.outer_state.members.theta
        thetas = [jax.tree.map(lambda x, i=i: x[i], members) for i in range(MEMBERS)]
    starts = [measure(theta) for theta in thetas]
    # The answer of a population counts, so its curve begins with the best member.
    steps, losses, inner_steps = [0], [min(starts)], [0]
    for _ in range(sizes.measurements):
        state, rows = made.run(state, run.seed, every)
        inner_steps.append(inner_steps[-1] + int(np.sum(rows.inner_steps)))
        steps.append(steps[-1] + every)
        losses.append(measure(state.theta))
    return {
        **run._asdict(),
        "steps": steps,
        "inner_steps": inner_steps,
        "meta_loss": [loss if np.isfinite(loss) else None for loss in losses],
        "initial_meta_losses": [loss if np.isfinite(loss) else None for loss in starts],
        **{name: np.asarray(rows.outer[name][-1]).tolist() for name in ("skipped", "shortened", "rollbacks")},
    }


def throughput(case: str, outers: Sequence[str], sizes: Sizes, num_devices: int, repeats: int) -> dict[str, float]:
    """Inner steps a second of each outer optimizer, as a share of the first one's; dispatches take turns."""
    engines, states = {}, {}
    for outer in outers:
        optimizer, engines[outer], every, _ = compiled(case, outer, 1.0, sizes, num_devices)
        states[outer] = engines[outer].init(optimizer.init(jax.random.key(0)), 0)
    rates: dict[str, list[float]] = {outer: [] for outer in outers}
    for _ in range(repeats + 1):
        for outer in outers:
            began = time.perf_counter()
            states[outer], rows = engines[outer].run(states[outer], 0, every)
            rates[outer].append(int(np.sum(rows.inner_steps)) / (time.perf_counter() - began))
    return {o: float(np.median(np.divide(rates[o][1:], rates[outers[0]][1:]))) for o in outers}


def final(row: dict[str, Any]) -> float:
    """The meta-loss at the end, infinite if it is not finite."""
    return np.inf if row["meta_loss"][-1] is None else row["meta_loss"][-1]


def share_needed(row: dict[str, Any], target: float) -> float | None:
    """Share of the budget after which the meta-loss is at the target for the first time; None if it never is."""
    budget = row["inner_steps"][-1] / row["share"]
    reached = [n for n, loss in zip(row["inner_steps"], row["meta_loss"], strict=True) if loss is not None]
    losses = [loss for loss in row["meta_loss"] if loss is not None]
    return next((n / budget for n, loss in zip(reached, losses, strict=True) if loss <= target), None)


def summary(case: str, rows: list[dict[str, Any]], best: dict[str, str], speeds: dict[str, float]) -> dict[str, Any]:
    """Sums up the reported runs of a case; `best` is the rate or factor that was chosen for each kind."""
    mine = [row for row in rows if row["case"] == case and row["seed"] < TUNING_SEEDS[0]]
    of = lambda outer, share=1.0: [r for r in mine if r["outer"] == outer and r["share"] == share]
    target = float(np.mean([final(row) for row in of(best["adamw"])]))
    found = {"case": case, "best": best, "outer": {}, "throughput": speeds}
    for outer in dict.fromkeys(row["outer"] for row in mine):
        ends = [final(row) for row in of(outer)]
        entry = {"final_meta_loss": ends, "mean": float(np.mean(ends))}
        longer = of(outer, 1.5)
        if longer:
            entry["mean_at_1.5"] = float(np.mean([final(row) for row in longer]))
            entry["budget_to_reach_adamw"] = [share_needed(row, target) for row in longer]
        if outer.startswith("population"):
            lowest = [min(x for x in row["initial_meta_losses"] if x is not None) for row in of(outer)]
            entry["best_initial"] = lowest
            entry["improved_on_all"] = [end < start for end, start in zip(ends, lowest, strict=True)]
        found["outer"][outer] = entry
    found["initial_meta_loss"] = [row["meta_loss"][0] for row in of(best["adamw"])]
    return found


def table(found: dict[str, Any]) -> str:
    """A summary as text."""
    lines = [f"{found['case']}: initial meta-loss {np.mean(found['initial_meta_loss']):.3f}"]
    for outer, entry in found["outer"].items():
        ends = " ".join(f"{loss:.3f}" for loss in entry["final_meta_loss"])
        line = f"  {outer:16} {entry['mean']:.3f}  ({ends})"
        if "budget_to_reach_adamw" in entry:
            needed = ", ".join("never" if x is None else f"{x:.2f}" for x in entry["budget_to_reach_adamw"])
            line += f"; with 1.5 times the budget {entry['mean_at_1.5']:.3f}, AdamW's end reached after {needed}"
        if "improved_on_all" in entry:
            line += f"; better than all its beginnings in {counted(sum(entry['improved_on_all']), 'run')}"
        lines.append(line)
    speeds = ", ".join(f"{name} {speed:.2f}" for name, speed in found["throughput"].items())
    lines.append(f"  inner steps a second, as a share of AdamW's: {speeds}")
    return "\n".join(lines)


def _described(outer: str) -> str:
    """An outer optimizer in the words of docs/self-training.md, such as "live, steps × 0.3" for "live 0.3"."""
    kind, number = outer.split()
    if kind == "adamw":
        return f"AdamW, rate {number}"
    words = {"guarded": "live with safeguards", "population": f"population of {MEMBERS} with safeguards"}
    return words.get(kind, kind) + (f", steps × {number}" if float(number) != 1 else "")


def plot(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Meta-loss by inner steps: a panel for each case, a line for each run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure = Figure(figsize=(6.5 * len(cases), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, case in zip(np.atleast_1d(figure.subplots(1, len(cases))), cases, strict=True):
        mine = [r for r in rows if r["case"] == case and r["seed"] < TUNING_SEEDS[0] and r["share"] == 1]
        for i, outer in enumerate(dict.fromkeys(row["outer"] for row in mine)):
            for row in mine:
                if row["outer"] == outer:
                    label = _described(outer) if row["seed"] == 0 else None
                    losses = np.array(row["meta_loss"], np.float64)
                    panel.plot(row["inner_steps"], losses, color=f"C{i}", linewidth=1, alpha=0.8, label=label)
        panel.set(title=case, xlabel="inner steps", ylabel="meta-loss on 16 fixed episodes")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)  # lines fill the panel
    figure.savefig(path, dpi=130)


def main() -> None:
    """Makes the runs that are missing and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/self_training.json"))
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="of each outer optimizer (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=None, help="(default: all)")
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test, not a measurement")
    arguments = parser.parse_args()
    meta_train.use_all_cores()
    engine.cache_compilations()
    sizes = QUICK if arguments.quick else Sizes()
    devices = arguments.devices or jax.device_count()
    tuning = TUNING_SEEDS[:1] if arguments.quick else TUNING_SEEDS
    numbers = {kind: RATES if kind == "adamw" else SCALES for kind in ("adamw", "frozen", "live", "guarded")}
    if arguments.quick:
        numbers = {kind: few[: 2 if kind in ("adamw", "guarded") else 1] for kind, few in numbers.items()}

    settings = {"sizes": sizes._asdict(), "members": MEMBERS, "frozen": FROZEN}
    partial = arguments.out.with_suffix(".partial.json")
    kept = json.loads(partial.read_text(encoding="utf-8")) if partial.is_file() else {}
    rows = kept.get("rows", {}) if kept.get("settings") == settings else {}

    def do(run):
        if run.key not in rows:
            rows[run.key] = carry_out(run, sizes, devices)
            partial.parent.mkdir(parents=True, exist_ok=True)
            temporary = partial.with_suffix(".tmp")
            temporary.write_text(json.dumps({"settings": settings, "rows": rows}), encoding="utf-8")
            os.replace(temporary, partial)
        bar.update()
        return rows[run.key]

    seeds, done, summaries = range(arguments.seeds), [], []
    count = sum(map(len, numbers.values())) * len(tuning) + 8 * arguments.seeds
    bar = progress.bar(len(arguments.case) * count, unit="run")
    with bar:
        for case in arguments.case:
            rows_of_case, best = [], {}
            for kind, few in numbers.items():
                tried = {f"{kind} {number:g}": [] for number in few}
                for outer, made in tried.items():
                    made += [do(Run(case, outer, seed)) for seed in tuning]
                    rows_of_case += made
                best[kind] = min(tried, key=lambda outer: np.mean([final(row) for row in tried[outer]]))
            del best["live"]  # without a factor, as frozen is shown below
            best["population"] = f"population {best['guarded'].split()[1]}"
            reported = dict.fromkeys([*best.values(), "frozen 1", "live 1"])
            rows_of_case += [do(Run(case, outer, seed)) for outer in reported for seed in seeds]
            rows_of_case += [do(Run(case, best[kind], seed, 1.5)) for kind in ("frozen", "guarded") for seed in seeds]
            names = tuple(best[kind] for kind in ("adamw", "frozen", "guarded"))
            speeds = throughput(case, names, sizes, devices, 1 if arguments.quick else 15)
            summaries.append(summary(case, rows_of_case, best, speeds))
            done += rows_of_case
    record = {**_STANDARD["about"](), "settings": settings, "summaries": summaries, "results": done}
    _STANDARD["write"](record, arguments.out)
    plot(done, arguments.out.with_suffix(".png"))
    partial.unlink()
    print("\n".join(map(table, summaries)))


if __name__ == "__main__":
    main()
