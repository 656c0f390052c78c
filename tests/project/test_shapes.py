"""Shapes in signatures are those of the arrays: each function that states some is called, and beartype compares.

Calls are traced and not run, which takes a hundredth of the time and has the same shapes.
"""

import ast
import functools
import importlib
import inspect
import pathlib
import re
import struct
import tempfile
import types

import beartype
import haiku as hk
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from learned_optim import adam_features
from learned_optim import blocks
from learned_optim import coordinate_lstm
from learned_optim import distance
from learned_optim import muon_directions
from learned_optim import networks
from learned_optim import schedule
from learned_optim import step_control
from meta_train import few_shot
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import fixed_point
from meta_train.tasks import broad_examples
from meta_train.tasks import broad_pool
from meta_train.tasks import masked_perceptron
from meta_train.tasks.convolution import Conv2D

ROOT = pathlib.Path(__file__).parents[2]
NAMES = {name: getattr(jaxtyping, name) for name in (*dir(jaxtyping), "Array") if not name.startswith("_")}
SHAPE = re.compile(r"""\[([\w. |]*(?:Array|ndarray)[\w. |]*), (["']).*?\2""")  # in an annotation

CELLS = problems.cell_space(problems.picture_operations(), num_nodes=2)  # three edges, six choices


def f32(*shape):
    return jnp.full(shape, 0.5, jnp.float32)


def i32(*shape):
    return jnp.full(shape, 1, jnp.int32)


def _modules():
    """The name and the syntax tree of each module of both packages that names jaxtyping."""
    for package in ("learned_optim", "meta_train"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "jaxtyping" in source:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                yield name, ast.parse(source)


def _imports(tree):
    """The statements that import from jaxtyping."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping"]
    return found + [
        node for node in ast.walk(tree) if isinstance(node, ast.Import) and "jaxtyping" in ast.unparse(node)
    ]


def _shaped(tree):
    """Names of the functions and methods whose signatures state shapes. Protocols are left out: nothing runs there."""
    functions = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases):
            functions |= {f"{node.name}.{each.name}": each for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            functions[node.name] = node
    for name, node in functions.items():
        hints = [ast.unparse(node.args), *([ast.unparse(node.returns)] if node.returns else [])]
        if any(map(SHAPE.search, hints)):
            yield name


def _stated(function):
    """The annotations with shapes, as they are written."""
    return {name: hint for name, hint in inspect.unwrap(function).__annotations__.items() if SHAPE.search(hint)}


def _checked(function, **hints):
    """The function, with an error for a call of other shapes than its annotations state; `hints` replaces some."""
    function = inspect.unwrap(function)
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    hints = {**_stated(function), **hints}
    copy.__annotations__ = {name: eval(hint, function.__globals__, NAMES) for name, hint in hints.items()}
    return jaxtyping.jaxtyped(copy, typechecker=beartype.beartype)


def _trace(call):
    def run():
        call()

    jax.eval_shape(run)


def _found(name):
    module, _, function = name.partition(":")
    result = importlib.import_module(module)
    for part in function.split("."):
        result = getattr(result, part)
    return result


def _in_haiku(call):
    hk.transform(call).init(jax.random.key(0))


def _in_files(read, *contents):
    """Calls a reader with files of these contents."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{number}.file") for number, _ in enumerate(contents)]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        read(*paths)


def _idx(*shape):
    """An idx file of zeros."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(int(np.prod(shape)))


def _moments():
    return adam_features.Moments(f32(3, 4), f32(3, 4), f32(3, 4))


def _adam_features():
    arrays = adam_features.Features(*[f32(3, 4)] * adam_features.NUM_FEATURES)
    return arrays, adam_features.Features(*[f32()] * adam_features.NUM_FEATURES)


def _product(f):
    with jax.enable_x64(True):
        f(jnp.ones(3, jnp.int64), fixed_point.empty(3, 2), jnp.ones((), jnp.int64))


def _move(f):
    with jax.enable_x64(True):
        f(fixed_point.empty(3, 2), i32(), jnp.asarray(True))


def _x64(f, dtype, *shape):
    with jax.enable_x64(True):
        f(jnp.ones(shape, dtype))


def _broad():
    """Five examples of a broad task, and what an episode drew of the data."""
    draw = broad_examples.sample(jax.random.key(0), broad_pool.pool(), 5)
    return broad_examples.minibatch(jax.random.key(0), draw, broad_pool.pool().train, 5), draw


def _masked_perceptron():
    """Weights of a network for six inputs, the inputs, and what an episode drew."""
    draw = masked_perceptron.sample(jax.random.key(0), 8, 2)
    params = masked_perceptron.init(jax.random.key(0), draw, f32(6), i32(), (6, 8, 8, 10))
    return params, f32(5, 6), draw


# "module:function" -> a call with small arrays. It gets the function.
EXAMPLES = {
    "learned_optim.adam_features:coordinates": lambda f: f(f32(3, 4), f32(3, 4), _moments(), f32()),
    "learned_optim.adam_features:direction": lambda f: f(
        adam_features.init_direction(jax.random.key(0), 5, 2), *_adam_features(), f32(5)
    ),
    "learned_optim.adam_features:inverse_moment": lambda f: f(f32(3, 4)),
    "learned_optim.blocks:gram": lambda f: (f(blocks.split(f32(2, 3, 4), 3)), f(blocks.split(f32(2, 9), 3))),
    "learned_optim.blocks:multiply": lambda f: (
        f(f32(2, 2, 2), blocks.split(f32(2, 3, 4), 3)),
        f(f32(1, 2, 2), blocks.split(f32(2, 9), 3), f32(1, 1, 1)),
    ),
    "learned_optim.blocks:split": lambda f: (f(f32(2, 3, 4), 3), f(f32(2, 9), 3)),
    "learned_optim.coordinate_lstm:advance": lambda f: f(
        coordinate_lstm.draw(jax.random.key(0), 3, 1, 2),
        [f32(4, 5)] * 2,
        (networks.LSTMState(f32(4, 5, 3), f32(4, 5, 3)),),
        by_units=False,
    ),
    "learned_optim.distance:copy": lambda f: f(jnp.zeros((3, 4), jnp.bfloat16)),
    "learned_optim.distance:first": lambda f: f([f32(3, 4), f32(2), f32()], f32()),
    "learned_optim.distance:measure": lambda f: f(
        [f32(3, 4)], [f32(3, 4)], [distance.Slots(f32(3, 4), f32(3, 4))], distance.first([f32(3, 4)], f32())
    ),
    "learned_optim.distance:relative_size": lambda f: f(f32(3, 4), f32()),
    "learned_optim.features:inverse_sqrt": lambda f: f(f32(3, 4)),
    "learned_optim.features:log_sign": lambda f: f(f32(3, 4)),
    "learned_optim.features:mean_square": lambda f: f(f32(3, 4)),
    "learned_optim.features:momenta": lambda f: (
        f(f32(3, 4), [f32(3, 4)] * 2, (0.9, f32())),
        f(f32(3, 4), [f32(3, 4)] * 2, f32(2)),
    ),
    "learned_optim.features:normalize": lambda f: f(f32(3, 4)),
    "learned_optim.features:constant_where_small": lambda f: f(f32(3, 4), f32(3, 4)),
    "learned_optim.features:ratio": lambda f: (f(f32(3, 4), f32(3, 4)), f(f32(3, 4), f32())),
    "learned_optim.features:second_moment": lambda f: (f(f32(3, 4), f32(3, 4), 0.9), f(f32(2), f32(2), f32())),
    "learned_optim.features:tanh_time": lambda f: f(f32()),
    "learned_optim.features:tiny_inverse_sqrt": lambda f: f(f32(3, 4)),
    "learned_optim.muon_directions:make": lambda f: f(
        f32(2, 3, 4), muon_directions.Averages(f32(2, 3, 4), f32(2, 3, 4), f32()), f32(), f32(), max_block=3
    ),
    "learned_optim.muon_directions:squareness": lambda f: (f(f32(3, 4)), f(f32(2))),
    "learned_optim.networks:relu": lambda f: f(f32(3, 4)),
    "learned_optim.networks:truncated_normal": lambda f: f(jax.random.key(0), 3, 2),
    "learned_optim.networks:unrolled_linear": lambda f: f(f32(3, 2), f32(2), [f32(3, 4), f32(3, 1), f32(1, 4)]),
    "learned_optim.orthogonal:newton_schulz": lambda f: (f(f32(2, 3, 3), 2), f(f32(3, 3), 1)),
    "learned_optim.orthogonal:orthogonalize": lambda f: f(f32(2, 3, 4), num_iterations=2, max_block=3),
    "learned_optim.samples:mean_squares": lambda f: f(f32(2, 6), np.array([6, 3])),
    "learned_optim.samples:take": lambda f: (f([f32(2, 3), f32()]), f([f32(90, 70)]), f([])),
    "learned_optim.schedule:anytime": lambda f: f(f32(), f32()),
    "learned_optim.schedule:early": lambda f: f(f32()),
    "learned_optim.schedule:log_step": lambda f: f(schedule.init_step(jax.random.key(0), 5, 0.0), f32(5), True),
    "learned_optim.schedule:progress": lambda f: f(f32(), f32(), f32(3)),
    "learned_optim.schedule:size": lambda f: (f(f32(3, 4)), f(f32(2))),
    "learned_optim.step_control:advance": lambda f: f(
        step_control.init(),
        f32(3, 4),
        f32(3, 4),
        f32(3),
        step_control.first(f32(3, 4), f32(3)),
        f32(),
    ),
    "learned_optim.step_control:first": lambda f: f(f32(3, 4), f32(3)),
    "learned_optim.step_control:log_sizes": lambda f: f([f32(2, 2), f32(3)], f32(2, 4)),
    "learned_optim.step_control:log_usual": lambda f: f([f32(2, 2), f32(3)], f32(2)),
    "meta_train.data.csv_tables:read_csv": lambda f: (
        _in_files(f, b"1,2,a\n3,4,b\n5,6,b\n"),
        _in_files(f, b"1,2,0.5\n3,4,1.5\n"),
        _in_files(f, b"1,2,0\n3,4,1\n5,6,1\n"),
    ),
    "meta_train.data.csv_tables:read_mask": lambda f: _in_files(f, b"0\n1\n1\n"),
    "meta_train.data.formats:read_idx_pair": lambda f: (
        _in_files(f, _idx(2, 3, 4), _idx(2)),
        _in_files(f, _idx(2, 3, 4, 1), _idx(2)),
    ),
    "meta_train.data.labels:are_labels": lambda f: f(np.array(["a", "b"]), np.array(["a"])),
    "meta_train.data.labels:number": lambda f: (
        f("", np.array(["a", "b", "b"]), np.array(["a"])),
        f("", np.array([-1.0, 1.0, 1.0]), np.array([1.0])),
    ),
    "meta_train.data.parts:split": lambda f: (
        f(np.zeros((5, 2)), np.zeros(5)),
        f(np.zeros((5, 3, 4, 1), np.uint8), np.zeros(5, np.uint8)),
    ),
    "meta_train.data.pictures:channels_last": lambda f: f(np.zeros((2, 3, 5, 4))),
    "meta_train.data.pictures:prepare": lambda f: (
        f(np.zeros((2, 4, 6)), size=2),
        f(np.zeros((2, 3, 5, 4), np.uint8), gray=True),
    ),
    "meta_train.estimators.antithetic:centered_ranks": lambda f: f(f32(4)),
    "meta_train.estimators.antithetic:shape": lambda f: (f(jnp.sign, f32(4), 0.1, None), f(None, f32(4), 0.1, None)),
    "meta_train.estimators.antithetic:weigh": lambda f: f({"w": f32(4, 2, 3)}, f32(4)),
    "meta_train.estimators.fixed_point:divide": _product,
    "meta_train.estimators.fixed_point:fetch": _move,
    "meta_train.estimators.fixed_point:multiply": _product,
    "meta_train.estimators.fixed_point:numerator": lambda f: _x64(f, jnp.float64),
    "meta_train.estimators.fixed_point:stow": _move,
    "meta_train.estimators.fixed_point:to_fixed": lambda f: _x64(f, jnp.float64, 3, 4),
    "meta_train.estimators.fixed_point:to_float": lambda f: _x64(f, jnp.int64, 3, 4),
    "meta_train.estimators.sliced:cut": lambda f: f(f32(2, 5), 4),
    "meta_train.estimators.sliced:cut_like": lambda f: f(f32(2, 5), f32(4, 2, 2), None),
    "meta_train.estimators.sliced:join": lambda f: f(f32(4, 2, 2), 5, None),
    "meta_train.evaluation.scores:cut": lambda f: (f(np.ones((2, 3))), f(np.ones(()))),
    "meta_train.evaluation.scores:interquartile_mean": lambda f: f(np.ones((2, 3))),
    "meta_train.evaluation.scores:interval": lambda f: f(np.ones((2, 3)), np.mean, num_samples=2),
    "meta_train.evaluation.scores:profile": lambda f: f(np.ones((2, 3)), np.ones(4)),
    "meta_train.evaluation.scores:score": lambda f: f(np.ones((2, 3))),
    "meta_train.evaluation.scores:score_intervals": lambda f: f(np.ones((2, 3, 4)), num_samples=2),
    "meta_train.evaluation.scores:score_of_medians": lambda f: f(np.ones((2, 3, 4))),
    "meta_train.evaluation.scores:speedup": lambda f: (
        f(np.ones(3), np.ones((5, 3))),
        f(np.ones(3), np.ones((2, 3)), (1.0, 2.0)),
    ),
    "meta_train.outer.search.base:mean_losses": lambda f: f(f32(2, 3)),
    "meta_train.outer.search.base:mean_ranks": lambda f: f(f32(2, 3)),
    "meta_train.evaluation.targets:first_below": lambda f: f(np.ones(4), np.ones((4, 3)), 1.0),
    "meta_train.problems.architecture:even_logits": lambda f: f(CELLS),
    "meta_train.problems.cell:describe_cell": lambda f: f(CELLS, np.array([1, 0, 2])),
    "meta_train.problems.cell:discretize": lambda f: f(CELLS, np.zeros((3, 6))),
    "meta_train.problems.cell:mixing_weights": lambda f: f(CELLS, i32(2, 3)),
    "meta_train.problems.cell:random_cells": lambda f: f(CELLS, 2),
    "meta_train.problems.learned_rotation:rotate": lambda f: (
        f(f32(2, 5, 4, 3), 0.5),
        f(f32(2, 5, 4, 3), f32()),
    ),
    "meta_train.problems.softmax_flow:softmax_flow": lambda f: f(f32(3, 2), f32(3, 3), i32(3), f32()),
    "meta_train.problems.synthetic_data:synthetic_loss": lambda f: f(
        few_shot.perceptron(3, ()), {"head": {"w": f32(4, 3), "b": f32(3)}}, f32(3, 2, 4)
    ),
    "meta_train.problems.trusted_data:weighted_mean": lambda f: f(f32(3), f32(3)),
    "meta_train.tasks.attention:layer_norm": lambda f: _in_haiku(lambda: f(f32(2, 3, 4))),
    "meta_train.tasks.attention:positions": lambda f: _in_haiku(lambda: f(3, 4)),
    "meta_train.tasks.attention:transformer": lambda f: _in_haiku(
        lambda: f(f32(2, 3, 4), num_layers=1, num_heads=2, causal=True)
    ),
    "meta_train.tasks.batch_norm:batch_norm": lambda f: _in_haiku(lambda: f(f32(2, 3, 4, 5))),
    "meta_train.tasks.base:normalized_loss": lambda f: f(tasks.quadratic("mine", size=3), f32(), ()),
    "meta_train.tasks.broad_draws:first": lambda f: f(3, i32()),
    "meta_train.tasks.broad_draws:integer": lambda f: (f(f32(), 1, i32()), f(f32(), i32(), 1)),
    "meta_train.tasks.broad_draws:log_uniform": lambda f: f(f32(), 1.0, 2.0),
    "meta_train.tasks.broad_examples:loss": lambda f: f(f32(5, 10), *_broad()),
    "meta_train.tasks.broad_examples:scale": lambda f: f(_broad()[1]),
    "meta_train.tasks.convolution:convolve": lambda f: f(f32(2, 5, 4, 3), f32(3, 3, 3, 6), stride=2),
    "meta_train.tasks.convolution:Conv2D.__call__": lambda f: _in_haiku(
        lambda: f(Conv2D(6, stride=2), f32(2, 5, 4, 3))
    ),
    "meta_train.tasks.masked_perceptron:apply": lambda f: f(*_masked_perceptron()),
    "meta_train.tasks.masked_perceptron:init": lambda f: f(
        jax.random.key(0), _masked_perceptron()[2], f32(6), i32(), (6, 8, 8, 10)
    ),
    "meta_train.tasks.prediction:cross_entropy": lambda f: (f(f32(2, 3, 4), i32(2, 3)), f(f32(4), i32())),
    "meta_train.tasks.subset_walk:examples": lambda f: f(i32(2, 3), i32(), 10),
    "meta_train.tasks.subset_walk:num_seen": lambda f: f(f32(), 10),
}

# What is wrong, the function, and the call.
WRONG = [
    ("rank", "learned_optim.features:tanh_time", lambda f: f(f32(1))),
    ("dtype", "learned_optim.features:inverse_sqrt", lambda f: f(i32(3))),
    ("two shapes", "learned_optim.features:second_moment", lambda f: f(f32(3, 4), f32(4, 3), 0.9)),
    ("two lengths", "meta_train.evaluation.scores:profile", lambda f: f(np.ones(3), np.ones((2, 3)))),
    ("not square", "learned_optim.orthogonal:newton_schulz", lambda f: f(f32(2, 3), 1)),
    ("in a list", "learned_optim.features:momenta", lambda f: f(f32(3), [f32(4)] * 2, (0.9, 0.9))),
    ("a number of arguments", "learned_optim.networks:unrolled_linear", lambda f: f(f32(3, 2), f32(2), [f32(4)] * 2)),
    ("leading axes", "meta_train.tasks.prediction:cross_entropy", lambda f: f(f32(2, 3, 4), i32(3, 2))),
]


def _without_example(found):
    return [
        f"{name}: its signature states shapes, and the test has no call of it. Add an example to EXAMPLES."
        for name in found
        if name not in EXAMPLES
    ]


def test_every_function_with_shapes_has_an_example():
    found = [f"{module}:{function}" for module, tree in _modules() for function in _shaped(tree)]
    assert _without_example(found) == []
    assert sorted(EXAMPLES) == sorted(found), "an example's function is gone, or states no shapes any more: remove it"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_call_has_the_shapes_that_the_signature_states(name):
    function = _checked(_found(name))
    _trace(lambda: EXAMPLES[name](function))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_shape_is_found_wherever_the_signature_states_one(name):
    """Each stated shape is replaced by one that no array has. beartype ignores what a `Callable` takes and gives."""
    function = _found(name)
    for place, hint in _stated(function).items():
        if hint.startswith("Callable"):
            continue
        wrong = _checked(function, **{place: SHAPE.sub(r"[\1, ' 9 9 9 9 9 9 9'", hint)})
        try:
            _trace(functools.partial(EXAMPLES[name], wrong))
        except jaxtyping.TypeCheckError:
            continue
        pytest.fail(f"{name}: no call in EXAMPLES gives an array for {place}: {hint}. Add one.")


def test_jaxtyping_is_imported_for_type_checkers_only():
    """So users need not install it."""
    checked = 0
    for name, tree in _modules():
        guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        allowed = {node for block in guarded for node in block.body}
        assert set(_imports(tree)) <= allowed, f"{name}: import jaxtyping under `if TYPE_CHECKING:`."
        checked += 1
    assert checked > 0


@pytest.mark.parametrize(("name", "call"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_argument_is_found(name, call):
    function = _checked(_found(name))
    with pytest.raises(jaxtyping.TypeCheckError, match=r"checking the parameters of"):
        _trace(lambda: call(function))


def test_a_wrong_result_is_found():
    def transposed(x: 'Float32[Array, "rows columns"]') -> 'Float32[Array, "rows columns"]':  # noqa: F821
        return x.T

    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        _trace(lambda: _checked(transposed)(f32(2, 3)))


def test_a_function_without_an_example_is_found():
    tree = ast.parse("""
if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float

def plain(x: Array): ...
def argument(x: int | Float[Array, "rows"]): ...
def result(x) -> list[Float[Array, "rows"]]: ...

class Module:
    def method(self, *, x: Float[Array, "rows"]): ...

class Contract(Protocol):
    def __call__(self, x: Float[Array, "rows"]): ...
""")
    found = list(_shaped(tree))
    assert found == ["argument", "result", "Module.method"]
    messages = _without_example(found)
    assert len(messages) == 3
    assert "argument: its signature states shapes" in messages[0]
