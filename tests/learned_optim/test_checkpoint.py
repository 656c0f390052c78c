"""Saving and loading: bit-exact, and every damaged or foreign file is a clear ValueError."""

import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
from typing import NamedTuple

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import learned_optim
from learned_optim import base
from learned_optim import checkpoint
from learned_optim import optimizers

OPTIMIZERS = {
    "mlp": learned_optim.mlp((2,), step_multiplier=0.25),
    "coordinatewise_lstm": learned_optim.coordinatewise_lstm(2, 1),
}


class Saved(NamedTuple):
    optimizer: learned_optim.LearnedOptimizer
    theta: dict
    data: bytes  # the file that `save` wrote
    path: pathlib.Path  # where to put a damaged one


@pytest.fixture(scope="module", params=OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def saved(request, tmp_path_factory):
    folder, theta = tmp_path_factory.mktemp("checkpoint"), _theta(request.param)
    learned_optim.save(folder / "whole.safetensors", request.param, theta)
    return Saved(request.param, theta, (folder / "whole.safetensors").read_bytes(), folder / "damaged.safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def _theta(optimizer, seed=0):
    random = np.random.RandomState(seed)
    skeleton = jax.eval_shape(optimizer.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: random.standard_normal(leaf.shape).astype(np.float32), skeleton)


def _bits(theta):
    return {name: {key: np.asarray(leaf).tobytes() for key, leaf in layer.items()} for name, layer in theta.items()}


def _assert_refused_or_unharmed(saved, data):
    """A changed file is a ValueError that names it, or (a blank in its header, say) it holds the same optimizer."""
    saved.path.write_bytes(data)
    try:
        optimizer, theta = learned_optim.load(saved.path)
    except ValueError as error:
        assert str(error).startswith(str(saved.path))
    else:
        assert _bits(theta) == _bits(saved.theta)
        assert optimizer.spec == saved.optimizer.spec


def test_round_trip(saved, path):
    path.write_bytes(saved.data)
    optimizer, theta = learned_optim.load(path)
    assert optimizer.spec == saved.optimizer.spec
    assert _bits(theta) == _bits(saved.theta)
    assert jax.tree.structure(theta) == jax.tree.structure(saved.theta)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(theta))


def test_round_trip_keeps_every_bit_pattern(path):
    """Negative zero, subnormal numbers and the largest one too."""
    optimizer = learned_optim.mlp((2,))
    theta = _theta(optimizer)
    theta["linear_1"]["w"] = np.array([[-0.0, np.finfo(np.float32).max], [1e-45, -1e-45]], np.float32)
    learned_optim.save(path, optimizer, jax.tree.map(jnp.asarray, theta))
    assert _bits(learned_optim.load(path)[1]) == _bits(theta)


def test_file_bytes_depend_on_optimizer_and_theta_alone(saved, tmp_path):
    for i in range(5):
        reordered = dict(sorted(saved.theta.items(), reverse=bool(i % 2)))
        learned_optim.save(tmp_path / f"{i}.safetensors", saved.optimizer, jax.tree.map(jnp.asarray, reordered))
        assert (tmp_path / f"{i}.safetensors").read_bytes() == saved.data


def test_file_is_ordinary_safetensors_with_tensors_named_by_path(saved):
    tensors = safetensors.numpy.load(saved.data)
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
        f"{layer}/{key}": leaf for layer, leaves in _bits(saved.theta).items() for key, leaf in leaves.items()
    }
    (length,) = struct.unpack("<Q", saved.data[:8])
    header = json.loads(json.loads(saved.data[8 : 8 + length])["__metadata__"]["learned_optim"])
    assert (header["format"], header["spec"]) == (checkpoint.FORMAT, saved.optimizer.spec)


def test_save_makes_folders_and_replaces_a_file(tmp_path):
    path, optimizer = tmp_path / "new" / "folder" / "a.safetensors", learned_optim.mlp((2,))
    for seed in (0, 1):
        learned_optim.save(str(path), optimizer, _theta(optimizer, seed))
    assert _bits(learned_optim.load(str(path))[1]) == _bits(_theta(optimizer, 1))
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_neither_saved_nor_loaded(path, value):
    """Such a file, of an earlier version, has a valid checksum."""
    optimizer = learned_optim.mlp((2,))
    theta = _theta(optimizer)
    theta["linear_1"]["w"][1, 0] = value
    with pytest.raises(ValueError, match="theta must be finite to be saved, but 'linear_1/w' holds NaN or infinity"):
        learned_optim.save(path, optimizer, theta)
    assert not path.exists()
    tensors = {f"{layer}/{key}": leaf for layer, leaves in theta.items() for key, leaf in leaves.items()}
    header = {"format": 1, "spec": optimizer.spec, "sha256": checkpoint._digest(optimizer.spec, tensors)}
    safetensors.numpy.save_file(tensors, path, metadata={"learned_optim": json.dumps(header)})
    with pytest.raises(ValueError, match=r"a\.safetensors: the tensors must be finite, but 'linear_1/w' holds NaN"):
        learned_optim.load(path)


@pytest.mark.parametrize(
    "other", [learned_optim.mlp((3,)), learned_optim.mlp((2, 2)), learned_optim.coordinatewise_lstm(2, 1)]
)
def test_save_refuses_theta_of_another_optimizer(tmp_path, other):
    with pytest.raises(ValueError, match="theta must come from the init of this 'mlp' optimizer"):
        learned_optim.save(tmp_path / "a.safetensors", learned_optim.mlp((2,)), _theta(other))
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_that_was_first_used_on_a_mesh_can_be_saved(path):
    optimizer = learned_optim.learned_sgd()
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("devices",))

    def update(theta):
        tx, params = optimizer.transform(theta), {"w": jnp.ones(3)}
        return tx.update(params, tx.init(params), params)[0]["w"]

    jax.shard_map(update, mesh=mesh, in_specs=jax.P(), out_specs=jax.P())(optimizer.init(jax.random.key(0)))
    learned_optim.save(path, optimizer, optimizer.init(jax.random.key(0)))
    assert learned_optim.load(path)[0].spec == optimizer.spec


def test_a_saved_file_has_the_permissions_of_any_new_file(path):
    learned_optim.save(path, learned_optim.mlp((2,)), _theta(learned_optim.mlp((2,))))
    ordinary = path.with_name("ordinary")
    ordinary.touch()
    assert oct(path.stat().st_mode) == oct(ordinary.stat().st_mode)


# Run by another process, in which no file may grow past 2000 bytes: as on a full disk, a write fails in its middle.
_SAVE_ON_A_FULL_DISK = """
import resource, sys
import jax
import learned_optim
optimizer = learned_optim.mlp((64,))
theta = optimizer.init(jax.random.key(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    learned_optim.save(sys.argv[1], optimizer, theta)
except Exception as error:
    sys.exit(f"failed: {error}")
"""


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path):
    learned_optim.save(path, learned_optim.mlp((2,)), _theta(learned_optim.mlp((2,))))
    before = path.read_bytes()
    command = [sys.executable, "-B", "-c", _SAVE_ON_A_FULL_DISK, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr[:8]) == (1, "failed: "), result.stderr
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_save_onto_a_folder_fails_and_leaves_nothing(path):
    path.mkdir()
    with pytest.raises(ValueError, match=path.name):
        learned_optim.save(path, learned_optim.mlp((2,)), _theta(learned_optim.mlp((2,))))
    assert list(path.parent.iterdir()) == [path]


def test_every_truncation_is_an_error(saved):
    for length in range(len(saved.data)):
        saved.path.write_bytes(saved.data[:length])
        with pytest.raises(ValueError, match=r"is not a complete safetensors file.*damaged, truncated, or of another"):
            learned_optim.load(saved.path)


def test_every_single_flipped_bit_is_found_or_harmless(saved):
    for position in range(len(saved.data)):
        for bit in range(8):
            changed = bytearray(saved.data)
            changed[position] ^= 1 << bit
            _assert_refused_or_unharmed(saved, bytes(changed))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_changed_bytes_are_found_or_harmless(saved, data):
    changed = bytearray(saved.data)
    position = data.draw(st.integers(0, len(changed) - 1), label="position")
    values = data.draw(st.binary(min_size=1, max_size=4), label="values")
    changed[position : position + len(values)] = values
    _assert_refused_or_unharmed(saved, bytes(changed))


def test_a_flipped_bit_in_a_tensor_is_named_as_damage(saved):
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(saved.theta))
    for position in range(len(saved.data) - num_bytes, len(saved.data)):
        changed = bytearray(saved.data)
        changed[position] ^= 0x10
        saved.path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match="is damaged: its content does not match the checksum"):
            learned_optim.load(saved.path)


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_a_file_of_another_format_is_an_error(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.safetensors is not a complete safetensors file"):
        learned_optim.load(path)


_NOT_OUR_HEADERS = ("", "{", "[]", "7", "{}", '{"format": 1}', "[" * 100_000, "9" * 5000)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"made_by": "someone"}, *({"learned_optim": text} for text in _NOT_OUR_HEADERS)]
)
def test_safetensors_of_someone_else_are_an_error(path, metadata):
    safetensors.numpy.save_file({"weight": np.ones(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(
        ValueError,
        match=r"a safetensors file, but does not contain a learned optimizer.*Write such files with.*load_theta",
    ):
        learned_optim.load(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*learned_optim\.learned_optimizer\(name\)"):
        learned_optim.load(tmp_path / "none.safetensors")


def _save_with_spec(path, **changes):
    """Writes a file that is whole, with the theta of one optimizer and another spec."""
    optimizer = learned_optim.mlp((2,))
    spec = {key: value for key, value in {**optimizer.spec, **changes}.items() if value is not None}
    learned_optim.save(path, optimizer._replace(spec=spec), _theta(optimizer))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": ["mlp"]}, "a spec must be a dict with a string 'kind'"),
        ({"kind": "newton"}, r"there is no architecture 'newton'. Known: adam_residual, .*mlp.*upgrade"),
        ({"feature_version": 99}, r"spec\['feature_version'\] of 'mlp' must be \d+, got 99: install the version"),
        ({"feature_version": None}, r"spec\['feature_version'\] of 'mlp' must be \d+, got None"),
        ({"depth": 3}, "the spec does not fit the architecture 'mlp'.*depth"),
        ({"hidden_sizes": [0]}, "hidden_sizes must be a non-empty sequence"),
        ({"hidden_sizes": [2, 2]}, r"has the tensors .*'linear_2/w'\], the file contains .*'linear_1/w'\]"),
        ({"hidden_sizes": [10**400]}, ""),
        ({"step_multiplier": 10**400}, "step_multiplier must be a finite number"),
        ({"hidden_sizes": [3]}, r"\['linear'\]\['b'\] should have shape \(3,\), got \(2,\)"),
    ],
)
def test_a_spec_that_does_not_fit_is_an_error(path, changes, message, monkeypatch):
    monkeypatch.setattr(checkpoint, "_check_loadable", lambda optimizer: None)  # as another version might write it
    _save_with_spec(path, **changes)
    with pytest.raises(ValueError, match=rf"a\.safetensors: .*{message}"):
        learned_optim.load(path)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, jnp.bfloat16])
def test_save_refuses_theta_of_another_dtype(path, dtype):
    optimizer = learned_optim.mlp((2,))
    theta = jax.tree.map(lambda leaf: leaf.astype(dtype), _theta(optimizer))
    with pytest.raises(ValueError, match="theta must be float32 to be saved"):
        learned_optim.save(path, optimizer, theta)
    assert not path.exists()


def test_a_newer_format_is_an_error(path, monkeypatch):
    this, newer = checkpoint.FORMAT, checkpoint.FORMAT + 1
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "FORMAT", newer)
        _save_with_spec(path)
    with pytest.raises(ValueError, match=f"has format {newer}, this version reads {this}: upgrade learned_optim"):
        learned_optim.load(path)


def _one_tensor(dtype, shape, num_bytes):
    """The bytes of a safetensors file with one tensor."""
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, num_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(num_bytes)


@pytest.mark.parametrize(("dtype", "shape", "num_bytes"), [("F8_E4M3", [1], 1), ("F32", [0, 1 << 62], 0)])
def test_tensors_that_numpy_cannot_hold_are_an_error(path, dtype, shape, num_bytes):
    path.write_bytes(_one_tensor(dtype, shape, num_bytes))
    with pytest.raises(ValueError, match=r"a\.safetensors is not a complete safetensors file"):
        learned_optim.load(path)


def test_load_refuses_tensors_of_another_dtype(path, saved):
    saved.path.write_bytes(saved.data)
    tensors, header = checkpoint._read(saved.path)
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    header["sha256"] = checkpoint._digest(header["spec"], tensors)
    safetensors.numpy.save_file(tensors, path, metadata={"learned_optim": json.dumps(header)})
    with pytest.raises(ValueError, match=r"a\.safetensors: the tensors must be float32, but .* is float64"):
        learned_optim.load(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path, saved):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "a.safetensors", tmp_path / f"{'a' * 240}.safetensors"):
        with pytest.raises(OSError, match=rf"{place} cannot be written \(.*name a file in a folder where you may"):
            learned_optim.save(place, saved.optimizer, saved.theta)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("aaa")] == []


def test_a_file_that_save_wrote_is_known_by_its_header(tmp_path, saved):
    saved.path.write_bytes(saved.data)
    assert checkpoint.is_saved(saved.path)
    (tmp_path / "a").write_bytes(saved.data[:9])
    safetensors.numpy.save_file({"weight": np.ones(3, np.float32)}, tmp_path / "b")
    assert not checkpoint.is_saved(tmp_path / "a") and not checkpoint.is_saved(tmp_path / "b")


class _MakesAFolder:
    """What a malicious pickle does: loading it runs a function of the attacker's choice."""

    def __init__(self, folder):
        self._folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self._folder,)


def test_nothing_unpickles(path, tmp_path):
    payload = pickle.dumps(_MakesAFolder(tmp_path / "attacked"))
    array = np.empty(1, object)
    array[0] = _MakesAFolder(tmp_path / "attacked")
    np.save(tmp_path / "objects.npy", array)
    for data in (payload, (tmp_path / "objects.npy").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not a complete safetensors file"):
            learned_optim.load(path)
    assert not (tmp_path / "attacked").exists()
    pickle.loads(payload)
    assert (tmp_path / "attacked").exists()  # the payload works: it was not run above


def _halving(size: int = 3, kind: str = "halving"):
    """An architecture of a user's own: a factor for each of `size` phases of ten steps."""

    def rule(theta, horizon):
        del horizon
        factor = lambda step: theta["factors"][jnp.clip(step.astype(jnp.int32) // 10, 0, size - 1)]
        return base.per_tensor((), lambda grad, param, slots, step: (-factor(step) * grad, slots))

    init = lambda key: {"factors": jax.random.uniform(key, (size,))}
    return base.define({"kind": kind, "feature_version": 1, "size": size}, init, rule)


@pytest.fixture
def registered(monkeypatch):
    """The architectures that users registered, at first none."""
    monkeypatch.setattr(optimizers, "_registered", {})


def test_an_architecture_of_ones_own_is_saved_once_it_is_registered(tmp_path, registered):
    """Before, `save` refuses and says how: what it wrote could not be loaded."""
    optimizer, path = _halving(4), tmp_path / "mine.safetensors"
    theta = optimizer.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"could not be loaded.*register_architecture\('halving', constructor\)"):
        learned_optim.save(path, optimizer, theta)
    assert not path.exists()
    learned_optim.register_architecture("halving", _halving)
    learned_optim.save(path, optimizer, theta)
    loaded, loaded_theta = learned_optim.load(path)
    assert loaded.spec == optimizer.spec
    np.testing.assert_array_equal(loaded_theta["factors"], theta["factors"])
    optimizers._registered.clear()
    with pytest.raises(ValueError, match=r"mine.safetensors: there is no architecture 'halving'.*If it is your own"):
        learned_optim.load(path)


@pytest.mark.parametrize("constructor", [lambda **spec: _halving(5), lambda size: learned_optim.mlp()])
def test_an_optimizer_whose_spec_builds_another_is_not_saved(tmp_path, registered, constructor):
    learned_optim.register_architecture("halving", constructor)
    optimizer = _halving(4)
    with pytest.raises(
        ValueError, match=r"'halving' optimizer cannot be saved, because its spec .* with another theta"
    ):
        learned_optim.save(tmp_path / "mine.safetensors", optimizer, optimizer.init(jax.random.key(0)))


def test_what_cannot_be_registered(registered):
    with pytest.raises(ValueError, match="'mlp' is an architecture of learned_optim: choose another kind"):
        learned_optim.register_architecture("mlp", _halving)
    for wrong in ((3, _halving), ("halving", _halving())):
        with pytest.raises(TypeError, match="takes a string and a callable constructor"):
            learned_optim.register_architecture(*wrong)


def test_installed_packages_offer_architectures_by_an_entry_point(tmp_path, registered, monkeypatch):
    package = tmp_path / "somebody-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n", encoding="utf-8")
    points = "[learned_optim.architectures]\noffered = somebody_offers:offered\nbroken = somebody_offers:missing\n"
    (package / "entry_points.txt").write_text(points, encoding="utf-8")
    (tmp_path / "somebody_offers.py").write_text(
        "import learned_optim\n"
        "from learned_optim.base import define\n"
        "from learned_optim.base import per_tensor\n"
        "def offered(rate=1.0):\n"
        "    rule = lambda theta, horizon: per_tensor((), lambda g, p, slots, t: (-rate * theta['a'] * g, slots))\n"
        "    spec = {'kind': 'offered', 'feature_version': 1, 'rate': rate}\n"
        "    return define(spec, lambda key: {'a': 1.0 + 0.0 * key_free()}, rule)\n"
        "def key_free():\n"
        "    import jax.numpy as jnp\n"
        "    return jnp.ones(())\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = optimizers.build({"kind": "offered", "feature_version": 1, "rate": 0.5})
    learned_optim.save(tmp_path / "a.safetensors", made, made.init(jax.random.key(0)))
    assert learned_optim.load(tmp_path / "a.safetensors")[0].spec["rate"] == 0.5
    with pytest.raises(ValueError, match=r"'broken' comes from the entry point 'somebody_offers:missing'.*Attribute"):
        optimizers.build({"kind": "broken", "feature_version": 1})


def test_what_save_cannot_write_is_told_before_anything_is_written(tmp_path):
    optimizer = learned_optim.mlp((2,))
    theta = _theta(optimizer)
    for path in (tmp_path, ""):
        with pytest.raises(ValueError, match=r"path must name a file, got .*, a folder: add a name"):
            learned_optim.save(path, optimizer, theta)
    for wrong in (theta, optimizer.transform(theta)):
        with pytest.raises(TypeError, match="save takes a path, a LearnedOptimizer and its theta"):
            learned_optim.save(tmp_path / "a.safetensors", wrong, theta)
    with pytest.raises(FileNotFoundError, match="is a folder: name the file in it"):
        learned_optim.load(tmp_path)
    assert list(tmp_path.iterdir()) == []
