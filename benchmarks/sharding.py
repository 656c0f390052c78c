"""Bytes that an update moves between devices if the parameters are sharded, and whether it computes the same.

    python benchmarks/sharding.py [--out FILE] [--devices N] [--case NAME …] [--quick]

Compiles one update for N virtual CPU devices and reads the program: the results of all collective operations on one
device, over the bytes of all parameters. It also makes an update and compares it with that of one device: the largest
difference of a coordinate, over the root mean square of its tensor's update. Prints a table, writes JSON and a plot.

Cases are models and how their tensors lie on a mesh. In `explicit` meshes the axes are explicit. In `shard_map` each
device updates its part by itself, as if it were a tensor. In `shard_map over data` the parts of a batch are an axis of
`jax.shard_map`, and the parameters are sharded over another one that the compiler handles. `optax.contrib.muon` treats
kernels of more than two dimensions and vectors as Adam. --quick leaves optax's optimizers out.
"""

import argparse
import collections
import functools
import math
import pathlib
import re
import runpy
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim

P = jax.P
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


class Case(NamedTuple):
    """A model on a mesh."""

    layout: dict  # shape and partition spec of each tensor; no two with one shape and different specs
    columns: int = 1  # the mesh has axes x and y; y has this size, and x the other devices
    mode: str = "jit"  # or explicit, shard_map, shard_map over data


def _matrices(up, down, square):
    return {"up": ((1024, 512), up), "down": ((512, 1024), down), "square": ((512, 512), square)}


_BOTH = _matrices(*[P("x", "y")] * 3)
CASES = {
    "rows": Case(_matrices(*[P("x")] * 3)),
    "columns": Case(_matrices(*[P(None, "x")] * 3)),
    "longer side": Case(_matrices(P("x"), P(None, "x"), P("x"))),
    "rows and columns": Case(_BOTH, columns=2),
    "rows over both axes": Case(_matrices(*[P(("x", "y"))] * 3), columns=2),
    "convolutions": Case(
        {"first": ((3, 3, 256, 128), P(None, None, "x")), "second": ((3, 3, 256, 256), P(None, None, "x", "y"))}, 2
    ),
    "attention": Case(
        {
            "query": ((512, 8, 64), P("x")),
            "key": ((512, 8, 32), P(None, "x")),
            "value": ((1024, 8, 64), P("x", "y")),
            "out": ((8, 64, 1024), P("y", None, "x")),
        },
        columns=2,
    ),
    "stacked layers": Case({"layers": ((4, 512, 512), P(None, "x"))}),
    "vectors": Case({"long": ((65536,), P("x")), "longer": ((131072,), P("x"))}),
    "rows, explicit": Case(_matrices(*[P("x", None)] * 3), mode="explicit"),
    "rows and columns, explicit": Case(_BOTH, columns=2, mode="explicit"),
    "shard_map": Case(_BOTH, columns=2, mode="shard_map"),
    "shard_map over data": Case(_matrices(*[P("x")] * 3), columns=2, mode="shard_map over data"),
}


def contenders(quick):
    """Transformations by name."""
    made = {
        "learned_optimizer()": learned_optim.learned_optimizer(num_steps=1000),
        "prodigy_muon": learned_optim.learned_optimizer("prodigy-muon-schedule-v1", num_steps=1000),
    }
    others = {"optax.adam": optax.adam(1e-3), "optax.contrib.muon": optax.contrib.muon(1e-3)}
    return made if quick else made | others


def moved(program: str) -> dict[str, int]:
    """Bytes of the results of collective operations on one device, by kind.

    Args:
      program: the text of a compiled program. Operations in a loop would count once, so it must have no loop.
    """
    found = collections.Counter()
    for line in program.splitlines():
        match = re.match(r"\s*(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z-]+)\(", line)
        if match is None:
            continue
        result, operation = match.groups()
        if operation == "while":
            raise ValueError(f"the program has a loop, whose messages would count once: {line.strip()[:100]}")
        if operation.removesuffix("-start") in KINDS:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", result)
            sizes = [_BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n) for dtype, dims in arrays]
            found[operation.removesuffix("-start")] += sum(sizes)
    return dict(found)


def _mesh(case, num_devices):
    kind = jax.sharding.AxisType.Explicit if case.mode == "explicit" else jax.sharding.AxisType.Auto
    return jax.make_mesh((num_devices // case.columns, case.columns), ("x", "y"), axis_types=(kind, kind))


def _tree(case, seed):
    random = np.random.RandomState(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, (shape, _) in case.layout.items()}


def _specs(case, tree):
    """The partition spec of each array: that of the parameter of its shape."""
    by_shape = dict(case.layout.values())
    return jax.tree.map(lambda leaf: by_shape.get(jnp.shape(leaf), P()), tree)


def _update(tx, case, mesh, arguments):
    """The function of gradients, state and parameters that is compiled for the mesh."""
    if case.mode == "shard_map":
        specs = _specs(case, arguments[0])
        return jax.shard_map(functools.partial(_first, tx), mesh=mesh, in_specs=(specs,), out_specs=specs)
    if case.mode == "shard_map over data":
        return jax.shard_map(tx.update, mesh=mesh, in_specs=P(), out_specs=P(), axis_names={"y"})
    return lambda *arguments: tx.update(*arguments)


def _first(tx, grads):
    """The first update of parameters that equal the gradients."""
    return tx.update(grads, tx.init(grads), grads)[0]


@functools.cache
def _unsharded(tx, shapes):
    """State and parameters after an update on one device, and the next gradients and updates."""
    case = Case({name: (shape, P()) for name, shape in shapes})
    params, first, grads = (_tree(case, seed) for seed in range(3))
    update = jax.jit(tx.update)
    updates, state = update(first, jax.jit(tx.init)(params), params)
    params = optax.apply_updates(params, updates)
    return (grads, state, params), jax.tree.map(np.asarray, update(grads, state, params)[0])


def _parts(case, mesh, tree):
    """The part of each array on the first device."""
    place = lambda leaf, spec: jax.device_put(leaf, jax.NamedSharding(mesh, spec)).addressable_shards[0].data
    return {name: np.asarray(place(leaf, case.layout[name][1])) for name, leaf in tree.items()}


def measure(tx, case, num_devices):
    """Returns the figures of a row."""
    mesh = _mesh(case, num_devices)
    arguments, expected = _unsharded(tx, tuple((name, shape) for name, (shape, _) in case.layout.items()))
    if case.mode == "shard_map":
        arguments = arguments[:1]
        expected = jax.jit(functools.partial(_first, tx))(_parts(case, mesh, arguments[0]))
    place = lambda leaf, spec: jax.device_put(leaf, jax.NamedSharding(mesh, spec))
    with jax.set_mesh(mesh):
        placed = jax.tree.map(place, arguments, _specs(case, arguments))
        compiled = jax.jit(_update(tx, case, mesh, arguments)).lower(*placed).compile()
        made = compiled(*placed)
    updates = _parts(case, mesh, made) if case.mode == "shard_map" else made[0]
    difference = {name: np.abs(np.asarray(updates[name]) - leaf).max() for name, leaf in expected.items()}
    relative = [difference[name] / np.sqrt(np.mean(np.square(leaf))) for name, leaf in expected.items()]
    total = sum(leaf.nbytes for leaf in arguments[0].values())
    shares = {kind: round(number / total, 5) for kind, number in moved(str(compiled.as_text())).items()}
    return {"bytes": shares, "total": round(sum(shares.values()), 5), "difference": float(max(relative))}


def plot(rows, path):
    """Bytes moved over those of the parameters: a group of bars for each case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("case", "optimizer"))
    figure = Figure(figsize=(8, 1.5 + 0.6 * len(cases)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for number, name in enumerate(names):
        chosen = [row for row in rows if row["optimizer"] == name]
        places = [cases.index(row["case"]) + 0.2 * number for row in chosen]
        panel.barh(places, [max(row["total"], 1e-4) for row in chosen], height=0.2, label=name)
    panel.set_yticks(range(len(cases)), cases)
    panel.invert_yaxis()
    panel.set(xscale="log", xlabel="bytes moved in an update / bytes of the parameters (less than 1e-4: nearly none)")
    panel.axvline(0.05, color="gray", linestyle=":")
    panel.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures all contenders in the cases named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/sharding.json"))
    parser.add_argument("--devices", type=int, default=8, help="virtual devices (default: %(default)s)")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="without the optimizers of optax")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    rows, transformations = [], contenders(arguments.quick)
    print(f"{'':47} {'bytes':>8} {'differs':>8}  bytes by kind, all over those of the parameters")
    for name in arguments.case:
        for contender, tx in transformations.items():
            if contender.startswith("optax") and CASES[name].mode != "jit":
                continue
            rows.append({"case": name, "optimizer": contender, **measure(tx, CASES[name], arguments.devices)})
            row = rows[-1]
            kinds = ", ".join(f"{kind} {share:.4f}" for kind, share in row["bytes"].items())
            print(f"{name:26} {contender:20} {row['total']:8.4f} {row['difference']:8.1e}  {kinds}", flush=True)
    _STANDARD["write"]({**_STANDARD["about"](), "results": rows}, arguments.out)
    plot(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
