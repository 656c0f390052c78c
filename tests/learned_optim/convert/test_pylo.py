"""PyLO's folders hold the same numbers as the files of the JAX references."""

import jax
import numpy as np
import pytest
import safetensors.numpy

import learned_optim
from learned_optim import convert
from learned_optim.convert import pylo


def _bits(tree):
    return {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in jax.tree.leaves_with_path(tree)}


def _reference(made, kind, tmp_path, format=None):
    path = tmp_path / "reference.state"
    path.write_bytes(made.packed(made.theta(kind)))
    return convert.load(path, format)


@pytest.fixture
def velo(made, tmp_path):
    rnn, mlp = made.pylo_velo(made.theta("velo"))
    made.write_folder(tmp_path / "hub" / "VeLO_RNN", rnn, mix_layers=True)
    made.write_folder(tmp_path / "hub" / "VeLO_MLP", mlp)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "name", ["", "VeLO_RNN", "VeLO_MLP", "VeLO_RNN/model.safetensors", "VeLO_MLP/model.safetensors"]
)
def test_velo_is_read_from_either_folder_or_the_one_around_both(name, velo, made, tmp_path):
    optimizer, theta = convert.load(velo / name)
    expected, same = _reference(made, "velo", tmp_path)
    assert optimizer.spec == expected.spec
    assert _bits(theta) == _bits(same)


@pytest.mark.parametrize(("name", "missing"), [("VeLO_RNN", "VeLO_MLP"), ("VeLO_MLP", "VeLO_RNN")])
def test_velo_needs_both_folders(name, missing, velo):
    (velo / missing / "model.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=f"{missing} is missing beside .*{name}. Download Pauljanson002/{missing} "
    ):
        convert.load(velo / name)


def test_velo_has_no_arrays_of_other_names(velo):
    path = velo / "VeLO_MLP" / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    for name in ("more", "more_weights_", "hidden_weights_", "input_weights_.0"):
        safetensors.numpy.save_file({**arrays, name: np.ones(3, np.float32)}, path)
        with pytest.raises(ValueError, match=f"missing: none; it has others: '{name}'"):
            convert.load(velo)


def test_upper_and_lower_case_make_no_difference_to_files_and_folders(velo, made, tmp_path):
    for name in pylo.VELO_FOLDERS:
        (velo / name).rename(velo / name.lower())
    assert convert.load(velo)[0].spec["kind"] == convert.load(velo / "velo_mlp")[0].spec["kind"] == "velo"
    folder = made.write_folder(tmp_path / "MULO", made.pylo_mlp(made.theta("adafac-mlp")))
    (folder / "model.safetensors").rename(folder / "Model.SAFETENSORS")
    assert convert.formats_of(folder) == convert.formats_of(folder / "Model.SAFETENSORS") == ("mulo", "elo")
    assert convert.load(folder)[0].spec["step_multiplier"] == 0.01


def test_a_safetensors_file_is_known_by_its_content(made, tmp_path):
    folder = made.write_folder(tmp_path / "elo", made.pylo_mlp(made.theta("adafac-mlp")))
    (folder / "model.safetensors").rename(folder / "theta.state")
    assert convert.load(folder)[0].spec["kind"] == "factored_mlp"


def test_celo2(made, tmp_path):
    folder = made.write_folder(tmp_path / "celo2", made.pylo_celo2(made.theta("celo2")), activation="relu")
    optimizer, theta = convert.load(folder)
    expected, same = _reference(made, "celo2", tmp_path)
    assert optimizer.spec == expected.spec and _bits(theta) == _bits(same)
    other = made.write_folder(tmp_path / "elo-celo2", made.pylo_celo2(made.theta("celo2")))
    assert convert.load(other)[0].spec == {**expected.spec, "vector_step_multiplier": 1.0}


def test_mulo_and_elo_differ_in_what_the_file_does_not_say(made, tmp_path):
    arrays = made.pylo_mlp(made.theta("adafac-mlp"))
    mulo, mulo_theta = convert.load(made.write_folder(tmp_path / "mulo", arrays))
    elo, elo_theta = convert.load(made.write_folder(tmp_path / "hub--elo", arrays))
    _, reference = _reference(made, "adafac-mlp", tmp_path)
    assert (mulo.spec["step_multiplier"], elo.spec["step_multiplier"]) == (0.01, 0.001)
    for theta in (mulo_theta, elo_theta):
        assert _bits({**theta, "decays": ()}) == _bits({**reference, "decays": ()})
    assert all(np.all(offsets == 0.0) for offsets in elo_theta["decays"].values())
    assert [round(float(x), 8) for x in mulo_theta["decays"]["adafactor"]] == [0.18621896, -0.10864615, -0.06185547]
    for name in ("downloaded", "celo", "elo-or-mulo-1"):
        unnamed = made.write_folder(tmp_path / name, arrays)
        assert convert.formats_of(unnamed) == ("mulo", "elo")
        with pytest.raises(
            ValueError, match=r"may be those of mulo or elo, and no name .* pass one of these as the format"
        ):
            convert.load(unnamed)
    assert convert.load(unnamed, "elo")[0].spec == elo.spec


def test_decays_in_the_file_are_taken(made, tmp_path):
    _, theta = _reference(made, "adafac-mlp", tmp_path, "mulo")
    assert np.array_equal(theta["decays"]["momentum"], made.theta("adafac-mlp")["momentum_decays"])


def _saved(change):
    def write(made, folder):
        arrays = made.pylo_mlp(made.theta("adafac-mlp"))
        change(arrays)
        made.write_folder(folder, arrays)

    return write


def _bytes(content):
    return lambda made, folder: (folder / "model.safetensors").write_bytes(content)


def _cut(made, folder):
    made.write_folder(folder, made.pylo_mlp(made.theta("adafac-mlp")))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def _config(text):
    def write(made, folder):
        made.write_folder(folder, made.pylo_mlp(made.theta("adafac-mlp")))
        (folder / "config.json").write_text(text)

    return write


def _own(made, folder):
    optimizer = learned_optim.mlp(hidden_sizes=(2,))
    zeros = lambda leaf: np.zeros(leaf.shape, leaf.dtype)
    theta = jax.tree.map(zeros, jax.eval_shape(optimizer.init, jax.random.key(0)))
    learned_optim.save(folder / "model.safetensors", optimizer, theta)


def _half(arrays):
    arrays["network.output.bias"] = arrays["network.output.bias"].astype(np.float16)


DAMAGED = {
    "empty": (_bytes(b""), "expected a safetensors file, got an empty file: download it again"),
    "a pointer": (
        _bytes(b"version https://git-lfs.github.com/spec/v1"),
        "file, got a pointer of git-lfs, not the file",
    ),
    "a page": (_bytes(b"<!doctype html>"), "expected a safetensors file, got a web page: download the raw file"),
    "other bytes": (_bytes(b"other bytes"), "expected a safetensors file, got a truncated, damaged or foreign one"),
    "a shape beyond NumPy's": (
        _bytes(
            b"\x4c"
            + b"\x00" * 7
            + b'{"x":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'.ljust(0x4C)
        ),
        "expected a safetensors file, got a truncated, damaged or foreign one",
    ),
    "a layer with a number that nobody has": (
        _saved(lambda arrays: arrays.update({f"network.linear_{'9' * 5000}.bias": np.ones(1, np.float32)})),
        "it has others: 'network.linear_99999",
    ),
    "pickle": (_bytes(b"\x80\x04K\x01."), "expected a safetensors file"),
    "a declared header of exabytes": (_bytes(b"\xff" * 7 + b"\x0f{"), "expected a safetensors file"),
    "truncated": (_cut, "truncated, damaged or foreign one"),
    "missing": (_saved(lambda arrays: arrays.pop("network.output.bias")), "are missing: 'nn/~/b2'"),
    "unknown": (_saved(lambda arrays: arrays.update(more=np.ones(1, np.float32))), "it has others: 'more'"),
    "a shape": (
        _saved(lambda arrays: arrays.update({"network.input.weight": np.ones((4, 38), np.float32)})),
        r"'nn/~/w0' should have shape \(39, hidden 1\), got \(38, 4\)",
    ),
    "a dtype": (_saved(_half), r"expected arrays in float32 \(F32\), but 'network.output.bias' is F16"),
    "foreign": (
        lambda made, folder: made.write_folder(folder, {"x": np.ones(1)[:0].astype("f4")}),
        "got arrays named 'x': see",
    ),
    "settings": (_config('{"activation": "tanh"}'), "must have activation 'relu', got 'tanh', which is not built here"),
    "damaged settings": (_config("{"), "config.json must be JSON"),
    "deep settings": (_config("[" * 100_000), "config.json must be JSON"),
    "a list of settings": (_config("[]"), r"config.json must be a JSON object, got \[\]"),
    "of this library": (_own, "it is a file of this library already: read it with learned_optim.load"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_or_foreign_folder_gets_an_error_that_says_what_came(what, made, tmp_path):
    write, message = DAMAGED[what]
    folder = tmp_path / "elo"
    folder.mkdir()
    write(made, folder)
    with pytest.raises(ValueError, match=message) as caught:
        convert.load(folder)
    assert str(caught.value).startswith(f"{folder / 'model.safetensors'}: ")


def test_names_are_those_of_the_reference(made, tmp_path):
    folder = made.write_folder(tmp_path, made.pylo_mlp(made.theta("adafac-mlp")))
    expected = {name: x for name, x in made.flat(made.theta("adafac-mlp")).items() if not name.endswith("_decays")}
    found = pylo.read(folder / "model.safetensors")
    assert {name: x.tobytes() for name, x in found.items()} == {name: x.tobytes() for name, x in expected.items()}
    assert safetensors.numpy.load_file(folder / "model.safetensors")["network.input.weight"].shape == (4, 39)
