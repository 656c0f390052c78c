"""What the learned optimizers cost on one accelerator: updates, a training step of GPT-2 small, meta-training.

    python benchmarks/gpu.py [--out FILE] [--minutes M] [--only PART …] [--sizes 1e6 1e7 …] [--quick]

The parts, each with its share of what the device can do:

- updates: the default, `prodigy_muon` with random weights, `optax.adam` and `optax.contrib.muon`, in place (update
  and `optax.apply_updates` in one program that owns parameters and state). The parameters are those of a transformer's
  layers: per layer matrices of d × 3d, d × d, d × 4d and 4d × d, and eight vectors. The least traffic of an update is
  to read gradients, parameters and state, and to write parameters and state; `bandwidth_share` is the time that this
  takes at the device's bandwidth, over the time measured.
- train-step: GPT-2 small (124 million parameters, 8 sequences of 1,024 random tokens) with the same optimizers.
  Parameters are float32, matrix products bfloat16 except on CPUs. `matmul_share` is that of the model's products alone,
  with attention to all places of the context, as it is computed.
- meta-training: `mlp 4` with PES on the digits MLP, as in benchmarks/meta_training.py, for several numbers of pairs.

Threads compile all programs before anything but bandwidth and product rates is measured. If that takes longer than 40 %
of the minutes, measuring begins with what is ready; rows with `compiling` above 0 were measured beside that many
unfinished programs. Optimizers take turns within each round, if the memory holds the states of all. Times are medians
and include the dispatch from Python. `flops` is XLA's count or that of the matrix products, whichever is larger: XLA
counts a loop once, and on GPUs it may not count calls of libraries.

The JSON is written after every measurement, and a plot beside it at the end. A case that fails has its error in place
of figures. What does not fit in the minutes is listed as left out. `--quick` is a smoke test at toy sizes.

Longer than 300 lines: each part has its own programs and measurement, and these are read one by one.
"""

import argparse
from collections.abc import Callable
import concurrent.futures
import functools
import json
import math
import os
import pathlib
import runpy
import shutil
import statistics
import subprocess
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
from meta_train import problems
from meta_train import tasks
from meta_train.training import engine

_HERE = pathlib.Path(__file__).parent
_standard = runpy.run_path(str(_HERE / "meta_training.py"))
_update_step = runpy.run_path(str(_HERE / "update_step.py"))

PARTS = ("updates", "train-step", "meta-training")
BASE = "optax.adam"
_ROUND_SECONDS = 0.1  # of one optimizer, about
_OUTER_STEPS = 5  # in a dispatch


class Model(NamedTuple):
    """Sizes of a GPT-2 and of its minibatch."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50257
    context: int = 1024
    batch: int = 8


class Sizes(NamedTuple):
    """What a run of this script measures."""

    updates: tuple[int, ...] = (10**6, 10**7, 10**8, 10**9)
    model: Model = Model()
    pairs: tuple[int, ...] = (64, 1024, 256, 4096)
    window: int = 50
    rounds: int = 10
    product: int = 8192  # side of the matrices whose products are timed
    copied: int = 2**28  # float32 numbers that are copied


QUICK = Sizes((2000,), Model(1, 16, 2, 64, 16, 2), (2,), 5, 2, 128, 2**12)


class Program(NamedTuple):
    """A compiled step of one optimizer, and what makes its arguments."""

    start: Any  # `() -> (params, state)`
    step: Any  # `(params, state, given) -> (params, state, …)`, which takes the memory of params and state
    facts: dict  # for the record
    resident: int  # bytes of params and state
    extra: int  # further bytes that a step needs, without `given`


class Job(NamedTuple):
    """A row or some rows of the record: what is compiled in threads, and how it is measured."""

    part: str
    case: dict  # what names the rows
    programs: dict[str, concurrent.futures.Future]
    measure: Callable[[dict[str, Any], float], list[dict]]  # `(compiled programs, seconds left) -> rows`


def contenders() -> dict[str, optax.GradientTransformationExtraArgs]:
    """The optimizers that are compared, by name."""
    made = {**_update_step["contenders"](["prodigy_muon"]), "optax.contrib.muon": optax.contrib.muon(1e-3)}
    return {name: optax.with_extra_args_support(tx) for name, tx in made.items()}


def explain(error: BaseException) -> str:
    """The text of an error for the record."""
    text = f"{type(error).__name__}: {error}"
    return "out of memory" if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError) else text[:500]


# The device.


def memory_limit(device) -> int:
    """Bytes that programs may use."""
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit") or int(0.7 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _seconds(function, x, calls=10, repeats=5):
    """Seconds of a call that takes the result of the one before: the best of some repeats."""
    x = jax.block_until_ready(function(x))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            x = function(x)
        jax.block_until_ready(x)
        seconds.append((time.perf_counter() - began) / calls)
    return min(seconds)


def device_rates(sizes: Sizes) -> dict:
    """Bandwidth of a copy, reading and writing, and rates of matrix products in float32 and bfloat16."""
    is_cpu = jax.default_backend() == "cpu"
    side = min(sizes.product, 1024) if is_cpu else sizes.product
    copy = _seconds(jax.jit(lambda x: x + 1.0, donate_argnums=0), jnp.zeros(sizes.copied, jnp.float32))
    rates = {"bandwidth": 2 * 4 * sizes.copied / copy}
    for name, dtype in {"float32": jnp.float32, "bfloat16": jnp.bfloat16}.items():
        matrix = (jax.random.normal(jax.random.key(0), (side, side)) / (2.0 * math.sqrt(side))).astype(dtype)
        calls = {"calls": 2, "repeats": 2} if is_cpu else {}
        seconds = _seconds(jax.jit(lambda x, matrix=matrix: x @ matrix), matrix, **calls)
        rates[f"{name}_product"] = 2 * side**3 / seconds
    x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    exact = x.astype(np.float64) @ x.astype(np.float64)
    made = np.asarray(jax.jit(lambda x: x @ x)(x))
    rates["float32_product_error"] = float(np.sqrt(np.mean((made - exact) ** 2) / np.mean(exact**2)))
    return rates


def about_device(sizes: Sizes) -> dict:
    """The device and its rates."""
    device = jax.devices()[0]
    rates = device_rates(sizes)
    # Float32 has 24 bits of precision, TF32 11, bfloat16 8.
    error = rates["float32_product_error"]
    inputs = "float32" if error < 1e-5 else "TF32" if error < 1e-3 else "bfloat16 or less"
    driver = None
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, encoding="utf-8", check=False).stdout.strip()
    return {
        "kind": device.device_kind,
        "platform": device.platform,
        "platform_version": device.client.platform_version,
        "driver": driver,
        "memory_limit": memory_limit(device),
        "default_matmul_precision": jax.config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
        "precision_of_float32_products": inputs,
        **rates,
    }


# Counting, compiling and timing a step.


def matmul_flops(jaxpr: Any) -> int:
    """Floating-point operations of the matrix products in a traced program; loops of known length count in full."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        values = [v for value in equation.params.values() for v in (value if isinstance(value, tuple) else (value,))]
        inner = [matmul_flops(v) for v in values if hasattr(v, "eqns")]
        total += equation.params["length"] * sum(inner) if equation.primitive.name == "scan" else sum(inner)
    return total


def _num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def prepare(make_params: Callable[[], Any], tx, step: Callable, given: Any) -> Program:
    """Compiles a step. `given` is its last argument, or the shapes of it."""

    def start():
        params = make_params()
        return params, tx.init(params)

    params, state = jax.eval_shape(start)
    began = time.perf_counter()
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(params, state, given)
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - began
    memory = _standard["memory_of"](compiled)
    products = matmul_flops(traced.jaxpr)
    facts = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "compile_seconds": round(compile_seconds, 2),
        "parameter_bytes": _num_bytes(params),
        "state_bytes": _num_bytes(state),
        "temporary_bytes": memory.temp_size_in_bytes,
        "state": round(_num_bytes(state) / _num_bytes(params), 3),
        "temporaries": round(memory.temp_size_in_bytes / _num_bytes(params), 3),
        "matmul_flops": products,
        "flops": max(products, (compiled.cost_analysis() or {}).get("flops", 0.0)),
    }
    extra = memory.temp_size_in_bytes + max(0, memory.output_size_in_bytes - memory.alias_size_in_bytes)
    return Program(jax.jit(start).lower().compile(), compiled, facts, _num_bytes((params, state)), extra)


def race(programs: dict[str, Program], given: Any, rounds: int, seconds: float, limit: int) -> dict[str, dict]:
    """Times the programs in turn, in rounds of some calls of each.

    Args:
      programs: by name.
      given: the last argument of each call.
      rounds: the most that are timed.
      seconds: after which no further round begins; each program that fits is timed once at least.
      limit: bytes of memory. If it does not hold the states of all, each program has all its rounds alone.

    Returns:
      For each name `milliseconds`, `best_milliseconds`, and `in_turn`; or `error`.
    """
    figures: dict[str, dict] = {}
    fits = {name: p for name, p in programs.items() if _num_bytes(given) + p.resident + p.extra <= limit}
    figures |= {name: {"error": "out of memory"} for name in programs if name not in fits}
    together = _num_bytes(given) + sum(p.resident for p in fits.values()) + max([p.extra for p in fits.values()] or [0])
    groups = [list(fits)] if together <= limit else [[name] for name in fits]
    for group in groups:
        deadline = time.perf_counter() + seconds / len(groups)
        live, calls, times = {}, {}, {name: [] for name in group}
        for number in range(-2, rounds):  # two calls that are not timed, the second to tell how many make a round
            if number > 0 and time.perf_counter() > deadline:
                break
            for name in group:
                if name in figures:
                    continue
                try:
                    if number == -2:
                        live[name] = fits[name].start()
                    began = time.perf_counter()
                    for _ in range(calls.get(name, 1)):
                        live[name] = fits[name].step(*live[name], given)[:2]  # no other name may keep the arrays
                    jax.block_until_ready(live[name])
                    elapsed = time.perf_counter() - began
                except Exception as error:  # whatever the compiler or the device says
                    live.pop(name, None)
                    figures[name] = {"error": explain(error)}
                    continue
                if number == -1:
                    calls[name] = max(1, min(50, round(_ROUND_SECONDS / elapsed)))
                elif number >= 0:
                    times[name].append(1e3 * elapsed / calls[name])
        for name, row in times.items():
            if name not in figures:
                best, median = min(row), statistics.median(row)
                figures[name] = {"milliseconds": median, "best_milliseconds": best, "in_turn": len(groups) == 1}
    return figures


def rows_of(programs: dict[str, Program], figures: dict[str, dict]) -> list[dict]:
    """Facts and figures of each optimizer, with the ratio to Adam's time."""
    base = figures.get(BASE, {}).get("milliseconds")
    rows = []
    for name, program in programs.items():
        row = {"name": name, **program.facts, **figures[name]}
        if base and "error" not in row:
            row["times_adam"] = row["milliseconds"] / base
        rows.append(row)
    return rows


# Updates.


def _values(shape):
    """Numbers that look random, and that take no memory and little compilation to make."""
    count = math.prod(shape)
    return jnp.sin(12.9898 * jax.lax.iota(jnp.float32, count) ** 2).reshape(shape)


def transformer_layers(size: int) -> list[dict[str, tuple[int, ...]]]:
    """Shapes of a transformer's layers with about `size` parameters, four layers more for each factor of ten."""
    layers = max(1, 4 * round(math.log10(size) - 5))
    step = 64 if size > 5e6 else 8
    d = max(step, step * round(math.sqrt(size / (12 * layers)) / step))
    matrices = {"qkv": (d, 3 * d), "out": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
    vectors = {f"{name}_bias": shape[1:] for name, shape in matrices.items()}
    norms = {f"norm{i}_{what}": (d,) for i in (1, 2) for what in ("scale", "bias")}
    return [{**matrices, **vectors, **norms} for _ in range(layers)]


def _fill(shapes, scale):
    return jax.tree.map(lambda shape: scale * _values(shape), shapes, is_leaf=lambda x: isinstance(x, tuple))


def prepare_update(tx, size: int) -> Program:
    """Compiles an update of a transformer's layers that overwrites parameters and state."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, value=jnp.ones(()))
        return optax.apply_updates(params, updates), state

    make = lambda: _fill(transformer_layers(size), 0.05)
    return prepare(make, tx, step, jax.eval_shape(make))


def measure_updates(programs, seconds, *, size, sizes, device):
    """Rows of the updates at one size."""
    any_program = next(iter(programs.values()))
    limit, grad_bytes = device["memory_limit"], any_program.facts["parameter_bytes"]
    if all(grad_bytes + p.resident + p.extra > limit for p in programs.values()):
        return rows_of(programs, {name: {"error": "out of memory"} for name in programs})
    grads = jax.block_until_ready(jax.jit(lambda: _fill(transformer_layers(size), 0.01))())
    rows = rows_of(programs, race(programs, grads, sizes.rounds, min(seconds, 20.0), limit))
    for row in rows:
        row["least_bytes"] = 3 * row["parameter_bytes"] + 2 * row["state_bytes"]
        if "error" not in row:
            row["bandwidth_share"] = row["least_bytes"] / device["bandwidth"] / (1e-3 * row["milliseconds"])
            row["matmul_share"] = row["flops"] / device["float32_product"] / (1e-3 * row["milliseconds"])
    return rows


# A training step of GPT-2.


def gpt2_params(model: Model) -> dict:
    """Parameters of GPT-2, float32. The output layer is the embedding."""
    d = model.width
    layer = transformer_layers(1)[0]
    scale = d // layer["out"][0]  # the shapes of a layer are multiples of its width
    layer = {name: tuple(scale * n for n in shape) for name, shape in layer.items()}
    params = _fill({"layers": [layer] * model.layers, "positions": (model.context, d), "norm_bias": (d,)}, 0.02)
    params["embedding"] = 0.02 * _values((model.vocabulary, d))
    params["norm_scale"] = jnp.ones((d,), jnp.float32)
    for layer in params["layers"]:
        layer |= {name: jnp.ones((d,), jnp.float32) for name in ("norm1_scale", "norm2_scale")}
    return params


def gpt2_loss(params: dict, tokens: jax.Array, model: Model) -> jax.Array:
    """Mean cross-entropy of the next token. The layers are one loop over their stacked parameters."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16

    def norm(x, scale, bias):
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5) * scale + bias

    def dense(x, layer, name):
        return x.astype(dtype) @ layer[name].astype(dtype) + layer[f"{name}_bias"].astype(dtype)

    def block(x, layer):  # x: float32[batch, context, width]
        qkv = dense(norm(x, layer["norm1_scale"], layer["norm1_bias"]), layer, "qkv")
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * model.heads, -1), 3, axis=2)  # [batch, context, heads, .]
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
        x = x + dense(mixed, layer, "out").astype(jnp.float32)
        hidden = dense(norm(x, layer["norm2_scale"], layer["norm2_bias"]), layer, "up")
        return x + dense(jax.nn.gelu(hidden), layer, "down").astype(jnp.float32), None

    x = params["embedding"][tokens[:, :-1]] + params["positions"]
    layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["layers"])
    x = norm(jax.lax.scan(block, x, layers)[0], params["norm_scale"], params["norm_bias"]).astype(dtype)
    logits = jnp.matmul(x, params["embedding"].astype(dtype).T, preferred_element_type=jnp.float32)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]))


def prepare_train_step(tx, model: Model, limit: int) -> Program:
    """Compiles a training step, with half the batch until it fits the memory."""

    def step(params, state, tokens):
        loss, grads = jax.value_and_grad(gpt2_loss)(params, tokens, model)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    make = lambda: gpt2_params(model)
    tokens = jax.ShapeDtypeStruct((model.batch, model.context + 1), jnp.int32)
    program = prepare(make, tx, step, tokens)
    if program.resident + program.extra > limit and model.batch > 1:
        return prepare_train_step(tx, model._replace(batch=model.batch // 2), limit)
    return program._replace(facts={"batch": model.batch, **program.facts})


def model_flops(model: Model) -> int:
    """FLOPs of the matrix products of loss and gradient."""
    tokens = jax.ShapeDtypeStruct((model.batch, model.context + 1), jnp.int32)
    gradient = jax.jit(jax.grad(lambda params, tokens: gpt2_loss(params, tokens, model)))
    return matmul_flops(gradient.trace(jax.eval_shape(lambda: gpt2_params(model)), tokens).jaxpr)


def measure_train_steps(programs, seconds, *, sizes, device):
    """Rows of the training steps. They have one batch size, the smallest that any of them needs."""
    model, limit = sizes.model._replace(batch=min(p.facts["batch"] for p in programs.values())), device["memory_limit"]
    for name, program in programs.items():
        if program.facts["batch"] != model.batch:
            programs[name] = prepare_train_step(contenders()[name], model, limit)
    tokens = jax.random.randint(jax.random.key(0), (model.batch, model.context + 1), 0, model.vocabulary)
    rate = device["float32_product" if jax.default_backend() == "cpu" else "bfloat16_product"]
    rows = rows_of(programs, race(programs, tokens, sizes.rounds, min(seconds, 40.0), limit))
    for row in rows:
        if "error" not in row:
            row["model_flops"] = model_flops(model)
            row["matmul_share"] = row["model_flops"] / rate / (1e-3 * row["milliseconds"])
            row["tokens_per_second"] = model.batch * model.context / (1e-3 * row["milliseconds"])
    return rows


# Meta-training.


def prepare_meta_training(pairs: int, window: int) -> tuple[engine.Engine, engine.EngineState, float, dict]:
    """Compiles the outer steps, and makes the first state."""
    optimizer = learned_optim.mlp((4,))
    estimator = _standard["pes"](optimizer, pairs, unroll_length=window)
    began = time.perf_counter()
    case = engine.build([estimator], optax.adam(1e-3), steps_per_dispatch=_OUTER_STEPS, devices=[jax.devices()[0]])
    state = case.init(optimizer.init(jax.random.key(0)), 0)
    case.ready()
    compile_seconds = time.perf_counter() - began
    memory = _standard["memory_of"](next(case.lower(state)).compile())
    facts = {"state_bytes": memory.argument_size_in_bytes, "temporary_bytes": memory.temp_size_in_bytes}
    return case, state, compile_seconds, facts


def count_inner_step() -> float:
    """FLOPs of an inner step."""
    optimizer = learned_optim.mlp((4,))
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"))
    key, theta = jax.random.key(0), optimizer.init(jax.random.key(0))
    state = problem.init(key, theta, jnp.asarray(100, jnp.int32))
    products = matmul_flops(jax.jit(problem.step).trace(key, theta, state, problem.data).jaxpr)
    return max(products, _standard["flops_per_inner_step"](optimizer))


def measure_meta_training(programs, seconds, *, sizes, device):
    """The row of one number of pairs."""
    case, state, compile_seconds, facts = programs["engine"]
    deadline = time.perf_counter() + min(seconds, 20.0)
    rates = []
    for number in range(-1, sizes.rounds):
        if number > 0 and time.perf_counter() > deadline:
            break
        began = time.perf_counter()
        state, metrics = case.run(state, 0, 1 if number < 0 else _OUTER_STEPS)
        inner_steps = int(np.sum(metrics.inner_steps))  # waits for the device
        rates.append(inner_steps / (time.perf_counter() - began))
    rates = rates[1:]
    row = {"inner_steps_per_second": statistics.median(rates), "best": max(rates), "worst": min(rates)}
    row |= {"compile_seconds": round(compile_seconds, 2), **facts}
    if "flops" in programs:
        row["flops_per_inner_step"] = programs["flops"]
        row["flops_per_second"] = row["inner_steps_per_second"] * programs["flops"]
        row["matmul_share"] = row["flops_per_second"] / device["float32_product"]
    return [row]


# The whole run.


def make_jobs(sizes: Sizes, parts: list[str], pool: concurrent.futures.Executor, device: dict) -> list[Job]:
    """All measurements, the cheap and telling ones first; they start to compile in this order."""
    optimizers = contenders()
    common = {"sizes": sizes, "device": device}

    def updates(size):
        programs = {name: pool.submit(prepare_update, tx, size) for name, tx in optimizers.items()}
        return Job("updates", {"size": size}, programs, functools.partial(measure_updates, size=size, **common))

    def train_step():
        limit = device["memory_limit"]
        programs = {name: pool.submit(prepare_train_step, tx, sizes.model, limit) for name, tx in optimizers.items()}
        return Job("train-step", {}, programs, functools.partial(measure_train_steps, **common))

    counted: list[concurrent.futures.Future] = []

    def meta_training(pairs):
        if not counted:
            counted.append(pool.submit(count_inner_step))
        programs = {"engine": pool.submit(prepare_meta_training, pairs, sizes.window), "flops": counted[0]}
        return Job("meta-training", {"pairs": pairs}, programs, functools.partial(measure_meta_training, **common))

    small = [size for size in sizes.updates if size < 5e8]
    large = [size for size in sizes.updates if size not in small]
    planned = [
        *[("updates", functools.partial(updates, size)) for size in small],
        ("train-step", train_step),
        *[("meta-training", functools.partial(meta_training, pairs)) for pairs in sizes.pairs[:2]],
        *[("updates", functools.partial(updates, size)) for size in large],
        *[("meta-training", functools.partial(meta_training, pairs)) for pairs in sizes.pairs[2:]],
    ]
    return [make() for part, make in planned if part in parts]


def take(jobs: list[Job], left: Callable[[], float], spare: float) -> Job:
    """Removes the first job that is compiled, or the first of all once less than `spare` seconds are left."""
    while left() > spare:
        for i, job in enumerate(jobs):
            if all(future.done() for future in job.programs.values()):
                return jobs.pop(i)
        time.sleep(0.1)
    return jobs.pop(0)


def perform(job: Job, left: Callable[[], float], compiling: int) -> list[dict]:
    """The rows of a job: figures, or errors. What is not compiled is left out."""
    programs, rows = {}, []
    for name, future in job.programs.items():
        try:
            programs[name] = future.result(timeout=0)
        except TimeoutError:
            rows.append({**job.case, "name": name, "error": "left out: it was still compiling"})
        except Exception as error:  # whatever tracing or the compiler says
            rows.append({**job.case, "name": name, "error": explain(error)})
    try:
        if programs and ("engine" in programs or "engine" not in job.programs):
            rows += [{**job.case, **row, "compiling": compiling} for row in job.measure(programs, max(1.0, left()))]
    except Exception as error:  # whatever the device says
        rows.append({**job.case, "error": explain(error)})
    return rows


def describe(part: str, row: dict) -> str:
    """A line of the table."""
    case = f"{row['size']:>13,} parameters" if "size" in row else f"{row['pairs']:>18,} pairs" if "pairs" in row else ""
    head = f"{part:13} {case:24} {row.get('name', ''):20}"
    if "error" in row:
        return f"{head} {row['error'].splitlines()[0]}"
    if part == "meta-training":
        share = f", {row['matmul_share']:.2%} of the product rate" if "matmul_share" in row else ""
        return f"{head} {row['inner_steps_per_second']:14,.0f} inner steps/s{share}"
    ratio = f"{row['times_adam']:6.2f} × adam" if "times_adam" in row else ""
    traffic = f", bandwidth {row['bandwidth_share']:5.1%}" if "bandwidth_share" in row else ""
    return (
        f"{head} {row['milliseconds']:10.3f} ms {ratio}{traffic}, products {row['matmul_share']:5.1%}, "
        f"state {row['state']:.2f}, temporaries {row['temporaries']:.2f}, compiled in {row['compile_seconds']:.1f} s"
    )


def plot(record: dict, path: pathlib.Path) -> None:
    """Times of updates, ratios of training steps, and rates of meta-training."""
    figure, (updates, steps, meta) = plt.subplots(1, 3, figsize=(16, 4.5))
    good = {part: [row for row in record[part] if "error" not in row] for part in PARTS}
    for name in dict.fromkeys(row["name"] for row in good["updates"]):
        chosen = sorted((row["parameters"], row["milliseconds"]) for row in good["updates"] if row["name"] == name)
        updates.plot(*zip(*chosen, strict=True), marker="o", label=name)
    updates.set(xscale="log", yscale="log", xlabel="parameters", ylabel="milliseconds", title="an update, in place")
    if good["updates"]:
        updates.legend(fontsize="small")
    steps.barh([row["name"] for row in good["train-step"]], [row["milliseconds"] for row in good["train-step"]])
    steps.set(xlabel="milliseconds", title="a training step of GPT-2")
    chosen = sorted((row["pairs"], row["inner_steps_per_second"]) for row in good["meta-training"])
    if chosen:
        meta.plot(*zip(*chosen, strict=True), marker="o")
        meta.set(xscale="log", yscale="log")
    meta.set(xlabel="antithetic pairs", ylabel="inner steps a second", title="meta-training")
    figure.suptitle(record["device"]["kind"])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write(record: dict, path: pathlib.Path) -> None:
    """Replaces the record on disk, so that a killed run leaves a whole one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def main() -> None:
    """Measures the parts named on the command line."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/gpu.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new begins (default: 8)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sizes", nargs="+", type=lambda text: round(float(text)), help="of updates, in parameters")
    parser.add_argument("--quick", action="store_true", help="a smoke test at toy sizes, whose figures mean nothing")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.sizes:
        sizes = sizes._replace(updates=tuple(arguments.sizes))
    left = lambda: 60.0 * arguments.minutes - (time.perf_counter() - began)

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    device = about_device(sizes)
    about = {**_standard["about"](), "device": device, "minutes": arguments.minutes, "quick": arguments.quick}
    record: dict[str, Any] = {**about, **{part: [] for part in PARTS}, "left_out": []}
    write(record, arguments.out)
    print(
        f"{device['kind']}, JAX {jax.__version__}: copies {device['bandwidth'] / 1e9:,.0f} GB/s, products "
        f"{device['float32_product'] / 1e12:.2f} TFLOP/s for float32 ({device['precision_of_float32_products']}), "
        f"{device['bfloat16_product'] / 1e12:.2f} for bfloat16",
        flush=True,
    )
    pool = concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    jobs = make_jobs(sizes, arguments.only, pool, device)
    futures = list({id(future): future for job in jobs for future in job.programs.values()}.values())
    unfinished = lambda: sum(not future.done() for future in futures)
    concurrent.futures.wait(futures, timeout=0.4 * 60.0 * arguments.minutes)
    record["seconds_until_compiled"] = round(time.perf_counter() - began, 1)
    print(f"compiled {len(futures) - unfinished()} of {len(futures)} programs in {record['seconds_until_compiled']} s")
    while jobs:
        job = take(jobs, left, spare=0.15 * 60.0 * arguments.minutes)
        if left() <= 0.0:
            record["left_out"].append({"part": job.part, **job.case})
            print(f"{job.part} {job.case}: left out, {arguments.minutes:g} minutes are over")
        else:
            rows = perform(job, left, unfinished())
            record[job.part] += rows
            for row in rows:
                print(describe(job.part, row), flush=True)
        record["seconds"] = round(time.perf_counter() - began, 1)
        write(record, arguments.out)
    plot(record, arguments.out.with_suffix(".png"))
    print(f"Wrote {arguments.out} and {arguments.out.with_suffix('.png').name}", flush=True)
    pool.shutdown(wait=False, cancel_futures=True)
    if unfinished():  # Python would wait for threads that compile
        os._exit(0)


if __name__ == "__main__":
    main()
