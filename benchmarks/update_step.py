"""The cost of one update of the default and of every architecture beside optax.adam: time, temporaries, compile time.

    python benchmarks/update_step.py [--out FILE] [--size 1e5 1e6 1e7] [--kind NAME …] [--rounds N] [--models [NAME …]]

The NAME of a kind is an architecture, with random weights, or the path of a .safetensors file.
The parameters are two equal square matrices of `--size` numbers in all. The architectures take turns within
each round, so that other load on the machine affects all of them alike. Each is called in two ways:

- update: `jax.jit(tx.update)(grads, state, params)`, with nothing donated;
- in place: update and `optax.apply_updates` in one program that owns params and state (donated), as a training loop
  has it. At sizes that fit the processor's cache, Adam is then some four times as fast as in the first way.

Prints tables, writes JSON, and a plot of the updates beside it. `temporaries` are bytes beyond arguments and results,
over those of the parameters. `FLOP` are operations a coordinate, as XLA counts them, and `bound` is the time that they
take at the rate of a matrix product, over the time of Adam: no implementation in float32 can have a lower ratio.
On CPUs a size takes minutes; the networks whose arithmetic is large take most of them.

`--models` also measures training steps, of all models of benchmarks/small_models.py or of the named ones: gradient,
update and `optax.apply_updates` in one program that owns params and state. The rivals are `optax.adam`,
`optax.contrib.muon`, `optax.contrib.prodigy` and `optax.contrib.schedule_free_adamw`. `first step` is the time to trace
and compile; CPU seconds hardly depend on other load. `--size` without sizes leaves the single updates out.
`--quick` makes the models small.
"""

import argparse
import json
import pathlib
import runpy
import statistics
import time
import unittest.mock

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import learned_optim
from learned_optim import networks
from learned_optim import optimizers

_BUDGET = 20.0  # seconds, after which a contender that is slow is not timed any further

_shared = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))
about, matmul_rate = _shared["about"], _shared["matmul_rate"]
MODELS = runpy.run_path(str(pathlib.Path(__file__).parent / "small_models.py"))["MODELS"]
RIVALS = {
    "optax.adam": lambda: optax.adam(1e-3),
    "optax.contrib.muon": lambda: optax.contrib.muon(1e-3),
    "optax.contrib.prodigy": optax.contrib.prodigy,
    "optax.contrib.schedule_free_adamw": lambda: optax.contrib.schedule_free_adamw(1e-3),
}


def contenders(kinds):
    """Transformations by name: optax.adam, the released default, architectures of default sizes, and files."""
    made = {"optax.adam": optax.adam(1e-3), "learned_optimizer()": learned_optim.learned_optimizer(num_steps=1000)}
    for kind in kinds:
        if kind not in optimizers.KINDS:
            made[kind] = learned_optim.learned_optimizer(kind, num_steps=1000)
            continue
        optimizer = optimizers.KINDS[kind]()
        made[kind] = optimizer.transform(jax.jit(optimizer.init)(jax.random.key(0)), num_steps=1000)
    return made


def kind_or_file(name: str) -> str:
    """Returns a name that `contenders` knows, or raises an error for the command line."""
    if name not in optimizers.KINDS and not name.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"expected a .safetensors file or one of {', '.join(optimizers.KINDS)}")
    return name


def update(tx):
    """One update, which leaves its arguments as they are."""
    return jax.jit(lambda params, state, grads: tx.update(grads, state, params, value=jnp.ones(())))


def in_place(tx):
    """One update that is applied to the parameters, which it overwrites."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, value=jnp.ones(()))
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def flops_per_coordinate(tx):
    """Operations a coordinate of an update of two 256 × 256 matrices; no blocks, since XLA counts a loop once."""
    params = {name: jnp.ones((256, 256), jnp.float32) for name in ("first", "second")}
    with unittest.mock.patch.object(networks, "in_blocks", lambda function, arrays, widest: function(arrays)):
        compiled = update(tx).lower(params, tx.init(params), params).compile()
    return _shared["flops_of"](compiled) / (2 * 256 * 256)


WAYS = {"update": update, "in place": in_place}


def measure(size: int, kinds: list[str], rounds: int, flops: dict[str, float], peak: float) -> list[dict]:
    """A row per way and contender. Times are medians over rounds of three calls; ratios are to Adam's median."""
    side = round((size / 2) ** 0.5)
    keys = jax.random.split(jax.random.key(0), 4)
    draw = lambda a, b: {"first": jax.random.normal(a, (side, side)), "second": jax.random.normal(b, (side, side))}
    params = jax.tree.map(lambda leaf: 0.05 * leaf, draw(*keys[:2]))
    grads = jax.tree.map(lambda leaf: 0.01 * leaf, draw(*keys[2:]))
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    rows = []
    for way, make in WAYS.items():
        cases, seconds = {}, {}
        for name, tx in contenders(kinds).items():
            state = tx.init(params)
            began = time.perf_counter()
            compiled = make(tx).lower(params, state, grads).compile()
            cases[name] = [compiled, jax.tree.map(jnp.copy, params), state]
            seconds[name] = []
            rows.append(
                {
                    "size": size,
                    "way": way,
                    "name": name,
                    "compile_seconds": round(time.perf_counter() - began, 2),
                    "temporaries": round(_shared["memory_of"](compiled).temp_size_in_bytes / num_bytes, 3),
                    "state": round(sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / num_bytes, 2),
                    "flops_per_coordinate": round(flops[name]),
                }
            )
        for number in range(rounds + 1):
            for name, case in cases.items():
                compiled, current, state = case
                if 3 * sum(seconds[name]) > _BUDGET:
                    continue
                if number == 0:  # what is measured starts with the second round
                    case[1:] = jax.block_until_ready(compiled(current, state, grads)) if way == "in place" else case[1:]
                    continue
                began = time.perf_counter()
                for _ in range(3):
                    made, state = compiled(current, state, grads)
                    current = made if way == "in place" else current
                jax.block_until_ready(made)
                seconds[name].append((time.perf_counter() - began) / 3)
                case[1:] = current, state
        base = statistics.median(seconds["optax.adam"])
        for row in rows[-len(cases) :]:
            median = statistics.median(seconds[row["name"]])
            row |= {"milliseconds": round(1e3 * median, 3), "times_adam": round(median / base, 2)}
            row["best_milliseconds"] = round(1e3 * min(seconds[row["name"]]), 3)
            row["bound"] = round(flops[row["name"]] * size / peak / base, 2)
        del cases
    return rows


def measure_model(model: str, width: float, kinds: list[str], rounds: int) -> list[dict]:
    """A row per contender for training steps of a model. Ratios are to Adam."""
    params, loss_fn, data = MODELS[model](width)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    rows, cases, seconds = [], {}, {}
    for name, tx in {**{name: make() for name, make in RIVALS.items()}, **contenders(kinds)}.items():

        def step(params, state, *data, tx=tx):
            loss, grads = jax.value_and_grad(loss_fn)(params, *data)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state, loss

        state = jax.jit(tx.init)(params)
        began, cpu_began = time.perf_counter(), time.process_time()
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, *data).compile()
        row = {"model": model, "name": name, "tensors": len(jax.tree.leaves(params))}
        row["first_step_seconds"] = round(time.perf_counter() - began, 2)
        row["first_step_cpu_seconds"] = round(time.process_time() - cpu_began, 2)
        row["state_bytes"] = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        row["state"] = round(row["state_bytes"] / num_bytes, 2)
        rows.append(row)
        cases[name], seconds[name] = (compiled, jax.tree.map(jnp.copy, params), state), []
    for number in range(rounds + 1):  # what is measured starts with the second round
        for name, (compiled, current, state) in cases.items():
            began = time.perf_counter()
            for _ in range(3):
                current, state, loss = compiled(current, state, *data)
            jax.block_until_ready((current, loss))
            cases[name] = compiled, current, state
            seconds[name] += [(time.perf_counter() - began) / 3] if number else []
    base = statistics.median(seconds["optax.adam"])
    base_cpu = rows[0]["first_step_cpu_seconds"]
    for row in rows:
        median = statistics.median(seconds[row["name"]])
        row |= {"milliseconds": round(1e3 * median, 3), "times_adam": round(median / base, 2)}
        row["first_step_times_adam"] = round(row["first_step_cpu_seconds"] / max(base_cpu, 0.01), 2)
    return rows


def print_model(rows: list[dict]) -> None:
    """A table of what `measure_model` returned."""
    print(f"\n{rows[0]['model']}, {rows[0]['tensors']} tensors, training step")
    print(f"{'':33} {'time':>11} {'/ adam':>7} {'first step':>11} {'CPU':>8} {'/ adam':>7} {'state':>6}")
    for row in rows:
        step = f"{row['milliseconds']:8.2f} ms {row['times_adam']:7.2f} {row['first_step_seconds']:9.1f} s"
        first = f"{row['first_step_cpu_seconds']:6.1f} s {row['first_step_times_adam']:7.2f}"
        print(f"{row['name']:33} {step} {first} {row['state']:6.2f}", flush=True)


def plot(rows: list[dict], path: pathlib.Path) -> None:
    """The ratio to Adam over the number of parameters, a panel per way."""
    figure, panels = plt.subplots(1, len(WAYS), figsize=(12, 5), sharey=True, squeeze=False)
    for panel, way in zip(panels[0], WAYS, strict=True):
        chosen = [row for row in rows if row["way"] == way]
        for name in dict.fromkeys(row["name"] for row in chosen):
            points = [(row["size"], row["times_adam"]) for row in chosen if row["name"] == name]
            panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(xscale="log", yscale="log", xlabel="parameters", title=way)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("time of an update / that of optax.adam")
    panels[0][-1].legend(fontsize="small", bbox_to_anchor=(1.02, 1.0), loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measures the architectures and sizes named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/update_step.json"))
    parser.add_argument("--size", nargs="*", type=lambda text: round(float(text)), default=[10**5, 10**6, 10**7])
    parser.add_argument("--kind", nargs="+", type=kind_or_file, default=sorted(optimizers.KINDS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds of three calls (default: %(default)s)")
    parser.add_argument(
        "--models", nargs="*", choices=MODELS, metavar="NAME", help=f"all, or some of {', '.join(MODELS)}"
    )
    parser.add_argument("--quick", action="store_true", help="models of an eighth of the width: a smoke test")
    arguments = parser.parse_args()
    peak = matmul_rate()
    flops = (
        {name: flops_per_coordinate(tx) for name, tx in contenders(arguments.kind).items()} if arguments.size else {}
    )
    print(f"float32 matrix product: {peak / 1e9:.0f} GFLOP/s")
    rows = []
    for size in arguments.size:
        made = measure(size, arguments.kind, arguments.rounds, flops, peak)
        rows += made
        for way in WAYS:
            print(f"\n{size:,} parameters, {way}")
            print(
                f"{'':20} {'time':>11} {'/ adam':>8} {'bound':>7} {'temporaries':>12} {'state':>7} {'FLOP':>7} "
                f"{'compile':>9}"
            )
            for row in made:
                if row["way"] == way:
                    print(
                        f"{row['name']:20} {row['milliseconds']:8.2f} ms {row['times_adam']:8.1f} {row['bound']:7.2f} "
                        f"{row['temporaries']:12.2f} {row['state']:7.1f} {row['flops_per_coordinate']:7,} "
                        f"{row['compile_seconds']:7.1f} s",
                        flush=True,
                    )
    models = []
    for model in [] if arguments.models is None else arguments.models or MODELS:
        made = measure_model(model, 0.125 if arguments.quick else 1.0, arguments.kind, arguments.rounds)
        print_model(made)
        models += made
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    record = {**about(), "matmul_gigaflops": round(peak / 1e9, 1), "results": rows, "models": models}
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"\nWrote {arguments.out}")
    if rows:
        plot(rows, arguments.out.with_suffix(".png"))
        print(f"Wrote {arguments.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
