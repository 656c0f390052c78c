"""What the networks of `secant_muon` add: it and its sibling without them, meta-trained at equal budget and judged.

    python benchmarks/network_gain.py [--minutes 8] [--seeds 0 1] [--scale 1] [--programs DIR] [--out DIR] [--quick]
    python benchmarks/network_gain.py --export DIR [--scale 1] [--platform cuda]

Both recipes, `secant_muon_general_v1` and `secant_muon_plain_v1`, are trained for the same time, for all seeds side by
side in one program for each task, with a sixteenth, a quarter and the whole of the outer steps that fit into it: what
more would give shows in that curve. Then all thetas, and half of the way to the last ones, are lanes of one program for
each task of the suite `validation` that is at hand, at 200, 1,000 and 2,000 steps. Changes are means over tasks of
log(loss / loss before meta-training), cut at ±1 for each task.

Writes thetas, JSON and a plot. Made for a GPU that is at hand for minutes: `--export` traces the programs on any
machine, and the GPU's compiles them (`--programs`) in threads, those of the judge while thetas are trained.
"""

import argparse
from collections.abc import Sequence
import concurrent.futures
import functools
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
from meta_train import tasks
from meta_train.evaluation import lanes
from meta_train.recipes import secant_muon_general_v1
from meta_train.recipes import secant_muon_plain_v1

KINDS = {"networks": secant_muon_general_v1.recipe, "plain": secant_muon_plain_v1.recipe}
BUDGETS = (16, 4, 1)  # divisors of the outer steps
STEPS, SEEDS = (200, 1000, 2000), 3  # of the judge
_CUT, _FLOOR = 1.0, 1e-8
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


class Program(NamedTuple):
    """The compiled functions of a task, on lists of leaves, with a leading axis of seeds."""

    init: Any  # (key data, theta) -> state
    estimate: Any  # (outer step, key data, theta, state, data) -> (gradient, state, loss)
    data: Any


def functions(number: int, estimator: Any, theta: Any) -> tuple[Any, Any]:
    """`init` and `estimate` of a `Program`, with the random keys that `fit` would draw for the task of that number."""
    structure, data_structure = jax.tree.structure(theta), jax.tree.structure(estimator.data)
    tree = lambda leaves: jax.tree.unflatten(structure, leaves)

    def begin(key, leaves):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), 0), number)
        return estimator.init(key, tree(leaves))

    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    shapes = jax.eval_shape(begin, key, jax.tree.leaves(theta))

    def estimate(step, key, leaves, state, data):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), 1), step)
        theta, state = tree(leaves), _wrap(shapes, state)
        data = jax.tree.unflatten(data_structure, data)
        gradient, state, info = estimator.estimate(jax.random.fold_in(key, number), theta, state, data)
        return jax.tree.leaves(gradient), _unwrap(state), info.loss

    init = jax.vmap(lambda key, leaves: _unwrap(begin(key, leaves)))
    return init, jax.vmap(estimate, in_axes=(None, 0, 0, 0, None))


def _is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _unwrap(tree):
    return [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(tree)]


def _wrap(shapes, leaves):
    flat, structure = jax.tree.flatten(shapes)
    made = [jax.random.wrap_key_data(x) if _is_key(s) else x for s, x in zip(flat, leaves, strict=True)]
    return jax.tree.unflatten(structure, made)


def _abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.asarray(x).dtype), tree)


def _starts(make, seeds):
    """Key data and leaves of theta, with a leading axis of seeds."""
    thetas = [make(seed=seed).theta for seed in seeds]
    leaves = jax.tree.leaves(jax.tree.map(lambda *x: jnp.stack(x), *thetas))
    return jax.random.key_data(jnp.stack([jax.random.key(seed) for seed in seeds])), leaves


def export(folder: pathlib.Path, make: Any, kind: str, seeds: Sequence[int], platform: str) -> None:
    """Traces the programs of a recipe and writes them as files; finished ones stay."""
    from jax import export as jax_export

    recipe, (keys, leaves) = make(seed=0), _starts(make, seeds)
    folder.mkdir(parents=True, exist_ok=True)
    for number, estimator in enumerate(recipe.estimators):
        path = folder / f"{kind}-{number}"
        if path.with_suffix(".estimate").exists():
            continue
        init, estimate = functions(number, estimator, recipe.theta)
        state, data = jax.eval_shape(init, keys, leaves), _abstract(jax.tree.leaves(estimator.data))
        arguments = {
            "init": (init, _abstract((keys, leaves))),
            "estimate": (estimate, (jax.ShapeDtypeStruct((), jnp.int32), *_abstract((keys, leaves)), state, data)),
        }
        for name, (function, given) in arguments.items():
            made = jax_export.export(jax.jit(function), platforms=[platform])(*given)
            path.with_suffix(f".{name}").write_bytes(bytes(made.serialize()))
        print(f"traced {kind}, {estimator.name}", flush=True)


def compiled(number: int, estimator: Any, theta: Any, starts: Any, files: pathlib.Path | None) -> Program:
    """Compiles the programs of a task; traced ones are read from files."""
    keys, leaves = starts
    if files is None:
        init, estimate = functions(number, estimator, theta)
    else:
        from jax import export as jax_export

        init, estimate = (
            jax_export.deserialize(bytearray(files.with_suffix(f".{name}").read_bytes())).call
            for name in ("init", "estimate")
        )
    state, data = jax.eval_shape(init, keys, leaves), jax.device_put(jax.tree.leaves(estimator.data))
    lowered = jax.jit(estimate, donate_argnums=3).lower(jnp.int32(0), keys, leaves, state, data)
    return Program(jax.jit(init).lower(keys, leaves).compile(), lowered.compile(), data)


def compilations(pool: concurrent.futures.Executor, kind: str, make: Any, arguments: argparse.Namespace) -> list:
    """Begins to compile the programs of a recipe; a future for each task."""
    recipe, starts = make(seed=0), _starts(make, arguments.seeds)
    files = [arguments.programs and arguments.programs / f"{kind}-{i}" for i in range(len(recipe.estimators))]
    return [
        pool.submit(compiled, i, estimator, recipe.theta, starts, files[i])
        for i, estimator in enumerate(recipe.estimators)
    ]


def train(programs: Sequence[Program], make: Any, seeds: Sequence[int], num_steps: int | None, seconds: float) -> Any:
    """Meta-trains from the start. Without num_steps it measures how many fit into the seconds, and trains nothing.

    Returns:
      `(leaves of theta [seeds, …], mean loss of each task at each outer step)`, or the number of outer steps.
    """
    (keys, leaves), recipe = _starts(make, seeds), make(num_steps=num_steps or 100, seed=0)
    structure = jax.tree.structure(recipe.theta)
    states = [program.init(keys, leaves) for program in programs]

    def outer(leaves, state, gradients):
        theta = jax.tree.unflatten(structure, leaves)
        mean = jax.tree.unflatten(structure, [jnp.mean(jnp.stack(x), axis=0) for x in zip(*gradients, strict=True)])
        updates, state = recipe.outer_optimizer.update(mean, state, theta)
        return jax.tree.leaves(optax.apply_updates(theta, updates)), state

    outer = jax.jit(jax.vmap(outer))
    state = jax.vmap(lambda leaves: recipe.outer_optimizer.init(jax.tree.unflatten(structure, leaves)))(leaves)
    losses = []
    for step in range(num_steps or 4):
        if step == 1 and num_steps is None:
            jax.block_until_ready(leaves)
            began = time.perf_counter()
        results = [
            program.estimate(jnp.int32(step), keys, leaves, states[i], program.data)
            for i, program in enumerate(programs)
        ]
        states = [result[1] for result in results]
        leaves, state = outer(leaves, state, [result[0] for result in results])
        losses.append([result[2] for result in results])
        if step % 10 == 9:
            jax.block_until_ready(leaves)  # bounds what is queued
    jax.block_until_ready(leaves)
    if num_steps is None:
        return max(16, int(seconds / ((time.perf_counter() - began) / 3)))
    return leaves, np.array(jax.tree.map(lambda x: float(jnp.mean(x)), losses))


def full(theta: Any) -> Any:
    """Theta of the architecture with networks: those that a sibling lacks have an output of zero."""
    whole = learned_optim.secant_muon().init(jax.random.key(0))
    return jax.tree.map(lambda _, x: jnp.asarray(x), whole, {**whole, **theta})


def judge(name: str, num_thetas: int) -> lanes.Lanes:
    """The program that trains a task with all thetas, each on all seeds; it is compiled here."""
    optimizer = learned_optim.secant_muon()
    like = jax.tree.map(np.asarray, optimizer.init(jax.random.key(0)))
    make = lambda theta, num_steps: optimizer.transform(theta, num_steps=num_steps)
    program = lanes.build(tasks.get(name), make, width=num_thetas * SEEDS, size=max(STEPS), like=like)
    program.compile()
    return program


def losses(program: lanes.Lanes, thetas: Sequence[Any]) -> np.ndarray:
    """Log of the final training and held-out losses, float64[numbers of steps, 2, thetas], means over the seeds."""
    repeated = jax.tree.map(lambda *x: np.repeat(np.stack(x), SEEDS, axis=0), *thetas)
    keys = jnp.concatenate([lanes.keys(SEEDS, lanes.TUNE)] * len(thetas))
    start, made = program.begin(keys), []
    for steps in STEPS:
        training, held_out = program.train(repeated, start, (steps,), steps)
        both = np.stack([lanes.final_losses(training), held_out["loss"][0]]).astype(np.float64)
        both = np.log(np.clip(np.nan_to_num(both, nan=np.inf), _FLOOR, 1 / _FLOOR))
        made.append(both.reshape(2, len(thetas), SEEDS).mean(axis=-1))
    return np.array(made)


def plot(rows: Sequence[dict], path: pathlib.Path) -> None:
    """Change of the training loss at each number of steps over outer steps, a line for each kind and seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, axes in enumerate(figure.subplots(1, len(STEPS), sharey=True, squeeze=False)[0]):
        for kind, color in zip(KINDS, "rb", strict=False):
            for seed in sorted({row["seed"] for row in rows}):
                line = [row for row in rows if (row["kind"], row["seed"], row["share"]) == (kind, seed, 1.0)]
                xy = [(row["outer_steps"], row["training"][i]) for row in line]
                axes.plot(*zip(*sorted(xy), strict=True), color + "o-", label=kind)
        axes.axhline(0.0, color="0.7")
        axes.set(xscale="log", xlabel="outer steps", title=f"{STEPS[i]:,} steps")
    figure.axes[0].set(ylabel="change of log training loss")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, for both kinds together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of pairs")
    parser.add_argument("--task", nargs="+", default=list(tasks.suite("validation", embedded=True)), metavar="NAME")
    parser.add_argument("--export", type=pathlib.Path, metavar="DIR", help="trace the programs, and end")
    parser.add_argument("--platform", default="cuda", help="to trace for")
    parser.add_argument("--programs", type=pathlib.Path, metavar="DIR", help="where traced programs are")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/network_gain"))
    parser.add_argument("--quick", action="store_true", help="one task and a few steps: a smoke test")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.scale, arguments.seeds, arguments.task = 1e-3, [0], ["iris-mlp"]
    makers = {kind: functools.partial(make, scale=arguments.scale) for kind, make in KINDS.items()}
    if arguments.quick:
        makers = {kind: functools.partial(_first_task_only, make) for kind, make in makers.items()}
    if arguments.export:
        for kind, make in makers.items():
            export(arguments.export, make, kind, arguments.seeds, arguments.platform)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    num_thetas = 1 + len(KINDS) * len(arguments.seeds) * (len(BUDGETS) + 1)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        programs = {kind: compilations(pool, kind, make, arguments) for kind, make in makers.items()}
        judges = {name: pool.submit(judge, name, num_thetas) for name in arguments.task}
        rows, thetas = [], []
        for kind, make in makers.items():
            ready = [future.result() for future in programs[kind]]
            seconds = 60 * arguments.minutes / len(KINDS) / sum(1 / divisor for divisor in BUDGETS)
            num_steps = 16 if arguments.quick else train(ready, make, arguments.seeds, None, seconds)
            for divisor in BUDGETS:
                made, curve = train(ready, make, arguments.seeds, num_steps // divisor, 0.0)
                for i, seed in enumerate(arguments.seeds):
                    recipe = make(seed=seed)
                    theta = jax.tree.unflatten(jax.tree.structure(recipe.theta), [np.asarray(x[i]) for x in made])
                    name = f"{kind}-{seed}-{num_steps // divisor}.safetensors"
                    learned_optim.save(arguments.out / name, recipe.optimizer, theta)
                    for share in (1.0, 0.5) if divisor == 1 else (1.0,):
                        way = optax.incremental_update(theta, recipe.theta, share)
                        thetas.append(jax.tree.map(np.asarray, full(way)))
                        row = {"kind": kind, "seed": seed, "outer_steps": num_steps // divisor, "share": share}
                        rows.append({**row, "task_losses": curve.tolist()})
                print(f"{kind}: {num_steps // divisor} outer steps", flush=True)
        thetas.insert(0, jax.tree.map(np.asarray, full({})))
        measured = {name: losses(future.result(), thetas) for name, future in judges.items()}
    changes = np.clip(np.array([x - x[:, :, :1] for x in measured.values()]), -_CUT, _CUT).mean(axis=0)
    for i, row in enumerate(rows, start=1):
        row |= {"training": changes[:, 0, i].tolist(), "held_out": changes[:, 1, i].tolist()}
        figures = "  ".join(f"{a:+.3f} / {b:+.3f}" for a, b in zip(row["training"], row["held_out"], strict=True))
        print(f"{row['kind']:9} seed {row['seed']}, {row['outer_steps']:5} steps, share {row['share']}: {figures}")
    record = {"steps": STEPS, "tasks": arguments.task, "scale": arguments.scale, "rows": rows}
    logs = {name: x.tolist() for name, x in measured.items()}
    _STANDARD["write"]({**_STANDARD["about"](), **record, "log_losses": logs}, arguments.out / "record.json")
    plot(rows, arguments.out / "curve.png")


def _first_task_only(make, **options):
    recipe = make(**options)
    return recipe._replace(estimators=recipe.estimators[-2:-1])


if __name__ == "__main__":
    main()
