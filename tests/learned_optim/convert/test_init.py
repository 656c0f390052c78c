"""Weights of other projects become optimizers of this library, and every number that has an effect is kept."""

import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim import __main__ as command_line
from learned_optim import convert
from learned_optim.factored_features import Features

# The groups of inputs in the order of the reference, by the names that they have here.
GROUPS = ("grad", "clipped_grad", "param", "momenta", "moment", "adam", "rsqrt", "factored_grads", "rmsprop")
GROUPS += ("rows", "columns", "row_rsqrts", "column_rsqrts", "factored_momenta")
KINDS = {"velo": "velo", "celo": "celo", "celo-adam": "celo", "celo2": "celo2", "mlp": "mlp"}
KINDS |= {"adafac-mlp": "factored_mlp", "rnn-mlp": "hierarchical_mlp"}


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def _bits(tree):
    return {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in jax.tree.leaves_with_path(tree)}


def _network_back(ours, num_outputs, lead):
    """The reference's arrays of the network on coordinates; None stands for an output that is not used."""
    sizes = {
        name: 3 if name in ("momenta", "adam") or name.startswith(("factored", "row", "column")) else 1
        for name in GROUPS
    }
    found, start = {}, 0
    for name in Features._fields:
        stop = start + sizes[name]
        found[f"w0__{GROUPS.index(name)}"] = lead(ours["linear"]["w"][..., start:stop, :])
        start = stop
    found["b0"] = lead(ours["linear"]["b"])
    for i in (1, 2):
        found |= {f"{each}{i}": lead(ours[f"linear_{i}"][each]) for each in ("w", "b")}
    assert found["w2"].shape[-1] == num_outputs
    return {f"ff_mod_stack/~/{name}": array for name, array in found.items()}


def _recurrent_back(ours, outputs):
    layers = {"linear_1": "mix_max", "linear_2": "mix_own", "rnn/linear": "lstm/linear", **outputs}
    found = {
        f"rnn_params/{theirs}/{each}": ours["lstm"][layer][each]
        for theirs, layer in layers.items()
        for each in ("w", "b")
    }
    return found | {f"lstm_init_state/{name}": ours["first_state"][name][None] for name in ("hidden", "cell")}


def _layers_back(network, prefix):
    names = ("linear", "linear_1", "linear_2")
    return {f"{prefix}{i}/{each}": network[name][each] for i, name in enumerate(names) for each in ("w", "b")}


def _back(kind, ours):
    """The arrays of the reference, from our theta. What has no effect on updates is left out."""
    if kind == "velo":
        network = _network_back(ours["bank"], 2, lambda x: x)
        return network | _recurrent_back(ours, {"rnn_to_controls": "output_0", "step_size": "output_1"})
    if kind in ("celo", "celo-adam"):
        network = _network_back(ours["rule"], 2, lambda x: x[None]) if kind == "celo" else {}
        return network | _recurrent_back(ours["scheduler"], {"step_size": "output_0"})
    if kind == "celo2":
        return _network_back(ours, 1, lambda x: x)
    if kind == "mlp":
        return _layers_back(ours, "mlp/~/linear_")
    if kind == "adafac-mlp":
        layers = {
            f"nn/~/{each}{i}": ours[name][each]
            for i, name in enumerate(("linear", "linear_1", "linear_2"))
            for each in "wb"
        }
        return layers | {f"{name}_decays": ours["decays"][name] for name in ("momentum", "rms", "adafactor")}
    found = _layers_back(ours["network"], "ffmod_params/mlp/~/linear_")
    for theirs, layer in (("params/rnn/linear", "lstm/linear"), ("to_ff_params/rnn_to_ff", "output_0")):
        found |= {f"rnn_{theirs}/{each}": ours["lstm"][layer][each] for each in ("w", "b")}
    found |= {f"rnn_to_in_params/rnn_to_in/{each}": ours["lstm"]["output_1"][each] for each in ("w", "b")}
    found |= {f"lstm_init_state/{name}": ours["first_state"][name][None] for name in ("hidden", "cell")}
    return found | {f"initial_{name}": ours[f"first_{name}"] for name in ("from_mlp", "from_lstm")}


WITHOUT_EFFECT = {
    "velo": {"rnn_params/linear/w", "rnn_params/linear/b"},
    "celo": {f"rnn_params/{layer}/{each}" for layer in ("linear", "rnn_to_controls") for each in ("w", "b")},
    "celo-adam": {"rnn_params/linear/w", "rnn_params/linear/b"},
}


def test_every_number_that_has_an_effect_is_kept_bit_for_bit(kind, made, tmp_path):
    reference = made.theta(kind)
    path = tmp_path / "file.state"
    path.write_bytes(made.packed(reference))
    optimizer, theta = convert.load(path)
    assert optimizer.spec["kind"] == KINDS[kind]
    back, arrays = _back(kind, theta), made.flat(reference)
    assert set(arrays) - set(back) == WITHOUT_EFFECT.get(kind, set())
    for name, array in back.items():
        original = arrays[name]
        if kind in ("velo", "celo", "celo2") and name in ("ff_mod_stack/~/w2", "ff_mod_stack/~/b2"):
            original = original[..., : array.shape[-1]]
        assert array.dtype == np.float32
        assert np.array_equal(array, original), name


def test_a_converted_file_is_used_like_a_released_name(kind, made, tmp_path, capsys):
    (tmp_path / "file.state").write_bytes(made.packed(made.theta(kind)))
    out = tmp_path / "mine.safetensors"
    assert command_line.main(["convert", str(tmp_path / "file.state"), str(out)]) == 0
    assert f"mine.safetensors: {kind}, a {KINDS[kind]} with" in capsys.readouterr().out
    optimizer, theta = learned_optim.load(out)
    loaded = convert.load(tmp_path / "file.state")
    assert _bits(theta) == _bits(loaded[1]) and optimizer.spec == loaded[0].spec
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    for name in (out, str(out)):
        tx = learned_optim.learned_optimizer(name, num_steps=100, weight_decay=1e-6)
        updates, _ = jax.eval_shape(lambda tx=tx: tx.update(params, tx.init(params), params, value=jnp.ones(())))
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)


def test_a_checkpoint_of_google_has_settings_beside_it(made, tmp_path):
    checkpoint = {"params": made.theta("velo"), "gen_id": "aug12", "step": 7}
    path = tmp_path / "name" / "params"
    path.parent.mkdir()
    path.write_bytes(made.packed(checkpoint))
    for found in (path, path.parent):
        optimizer, theta = convert.load(found)
        assert optimizer.spec["bank_multiplier"] == 100.0 and not optimizer.spec["fixed_state"]
    (path.parent / "config.gin").write_text("HyperV2.exp_mult = 0.01\nHyperV2.use_bugged_loss_features = True\n")
    changed, same = convert.load(path)
    assert changed.spec == {**optimizer.spec, "magnitude_multiplier": 0.01, "equal_loss_averages": True}
    assert _bits(same) == _bits(theta)


def test_the_oldest_velo_is_a_tuple_and_has_both_bugs(made, tmp_path):
    path = tmp_path / "aug11.checkpoint"
    path.write_bytes(made.packed({"0": made.theta("velo"), "1": "", "2": 0}))
    assert convert.formats_of(path) == ("velo-with-bugs", "velo", "velo-s")
    spec = convert.load(path)[0].spec
    assert (spec["fixed_state"], spec["equal_loss_averages"], spec["bank_multiplier"]) == (True, True, 100.0)
    assert convert.load(path, "velo")[0].spec["fixed_state"] is False


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("velo", "theta.state", "velo"),
        ("velo", "velo-s/theta.state", "velo-s"),
        ("velo", "models--amoudgl--velo-s/snapshots/0123/theta.state", "velo-s"),
        ("celo", "theta.state", "celo"),
        ("celo", "celo_rule.state", "celo-rule"),
        ("celo2", "theta.state", "celo2"),
        ("celo2", "celo2-base/theta.state", "celo2-base"),
        ("celo2", "basecelo2-basement.state", "celo2"),
        ("adafac-mlp", "mulo.state", "mulo"),
    ],
)
def test_names_decide_between_optimizers_with_the_same_arrays(kind, name, expected, made, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.packed(made.theta(kind)))
    assert convert.formats_of(path)[0] == expected
    assert convert.load(path)[0].spec == convert.load(path, expected)[0].spec


def test_the_folder_that_one_works_in_has_a_name_too(made, tmp_path, monkeypatch):
    (tmp_path / "celo2-base").mkdir()
    (tmp_path / "celo2-base" / "theta.state").write_bytes(made.packed(made.theta("celo2")))
    monkeypatch.chdir(tmp_path / "celo2-base")
    assert [convert.formats_of(path)[0] for path in ("theta.state", ".")] == ["celo2-base", "celo2-base"]


def test_weights_are_not_lost_by_a_folder_that_is_read_and_written(made, tmp_path, capsys):
    folder = made.write_folder(tmp_path / "elo", made.pylo_mlp(made.theta("adafac-mlp")))
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit) as ended:
        command_line.main(["convert", str(folder), str(folder / "model.safetensors")])
    assert ended.value.code == 2
    assert "model.safetensors, which is something else: name another" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == before


def test_settings_that_make_no_sense_end_the_command_with_status_2(made, tmp_path, capsys):
    (tmp_path / "params").write_bytes(made.packed(made.theta("velo")))
    (tmp_path / "config.gin").write_text("HyperV2.use_bugged_next_lstm_state = 1")
    with pytest.raises(SystemExit) as ended:
        command_line.main(["convert", str(tmp_path), str(tmp_path / "o.safetensors")])
    assert ended.value.code == 2
    assert "expected True or False in" in capsys.readouterr().err


def test_formats_of_the_same_arrays_differ_in_what_they_do_with_them(made, tmp_path):
    def specs(kind):
        path = tmp_path / "file.state"
        path.write_bytes(made.packed(made.theta(kind)))
        return [convert.load(path, name)[0].spec for name in convert.formats_of(path)]

    velo, small, _ = specs("velo")
    assert small == {**velo, "bank_multiplier": 1.0}
    celo, rule = specs("celo")
    assert rule == {**celo, "scheduler": False}
    deployed, base = specs("celo2")
    assert (deployed["newton_schulz_steps"], deployed["vector_step_multiplier"]) == (5, 20.0)
    assert base == {**deployed, "newton_schulz_steps": 0, "vector_step_multiplier": None}


# What is wrong, how the file comes to be, and words of the error.
def _saved(tree):
    return lambda made: made.packed(tree(made.theta("celo")))


def _without(theta):
    del theta["rnn_params"]["rnn/linear"]
    return theta


def _changed(change):
    def changed(theta):
        theta["rnn_params"]["step_size"]["w"] = change(theta["rnn_params"]["step_size"]["w"])
        return theta

    return _saved(changed)


def _mixed(theta):
    return {**theta, "ff_mod_stack": {"~": {**theta["ff_mod_stack"]["~"], "w9": np.ones(3, np.float32)}}}


DAMAGED = {
    "empty": (lambda made: b"", "got an empty file: download it again"),
    "pickle": (lambda made: pickle.dumps({"w": 1}), "got a pickle. Pickles can run any code, so they are never read"),
    "zip": (lambda made: b"PK\x03\x04 rest", "got a zip archive, such as a PyTorch or .npz file"),
    "page": (lambda made: b"<!doctype html>", "got a web page: download the raw file"),
    "text": (lambda made: b"hello", "begins with b'hello'"),
    "pointer": (lambda made: b"version https://git-lfs.github.com/spec/v1", "a pointer of git-lfs"),
    "foreign": (lambda made: made.packed({"model": {"w": np.ones(3, np.float32)}}), "got arrays named 'model/w'. See"),
    "no arrays": (lambda made: made.packed({"step": 3}), "expected arrays alone, got 3 as 'step'"),
    "a name of two lines": (
        lambda made: made.packed({"a\nb": np.ones(3, np.float32)}),
        r"got arrays named 'a\\nb'\. See",
    ),
    "nothing": (lambda made: made.packed({}), "got arrays named none"),
    "truncated": (lambda made: made.packed(made.theta("celo"))[:-9], "got a truncated, damaged or foreign file"),
    "trailing": (lambda made: made.packed(made.theta("celo")) + b"123", "followed by 3 further bytes"),
    "missing": (_saved(_without), "are missing: 'rnn_params/rnn/linear/b', 'rnn_params/rnn/linear/w'"),
    "too many": (
        _saved(_mixed),
        r"are missing: 'ff_mod_stack/~/b3', 'ff_mod_stack/~/w3'; it has others: 'ff_mod_stack/~/w9'",
    ),
    "a shape": (_changed(lambda w: w[:-1]), r"'rnn_params/step_size/w' should have shape \(6, 1\), got \(5, 1\)"),
    "a rank": (_changed(lambda w: w[:, 0]), r"'rnn_params/step_size/w' should have shape \(6, 1\), got \(6,\)"),
    "a dtype": (
        _changed(lambda w: w.astype(np.float64)),
        "'rnn_params/step_size/w' must be float32, got float64: save",
    ),
    "not finite": (_changed(lambda w: w * np.nan), "'rnn_params/step_size/w' has values that are not finite"),
    "no array": (_changed(lambda w: "text"), "expected arrays alone, got 'text' as 'rnn_params/step_size/w'"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_or_foreign_file_gets_an_error_that_says_what_came(what, made, tmp_path, capsys):
    content, message = DAMAGED[what]
    path = tmp_path / "theta.state"
    path.write_bytes(content(made))
    with pytest.raises(ValueError, match=message) as caught:
        convert.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(SystemExit) as ended:
        command_line.main(["convert", str(path), str(tmp_path / "out.safetensors")])
    assert ended.value.code == 2
    assert str(caught.value) in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_cut_anywhere_is_refused(made, tmp_path):
    content, path = made.packed(made.theta("celo2")), tmp_path / "theta.state"
    for end in range(1, len(content), 13):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="expected the msgpack of a dict of arrays"):
            convert.load(path)


@pytest.mark.parametrize("kind", ["celo", "adafac-mlp", "mlp"])
def test_changed_bytes_give_other_weights_or_a_value_error(kind, made, tmp_path):
    content, path = made.packed(made.theta(kind)), tmp_path / "theta.state"
    rng, refused = np.random.default_rng(0), 0
    starts = [i for i in range(len(content) - 8) if content[i : i + 7] == b"float32"]
    for place in (*(int(start) + rng.integers(-30, 12) for start in starts), *rng.integers(0, len(content), 40)):
        changed = bytearray(content)
        changed[max(int(place), 0)] = rng.integers(256)
        path.write_bytes(changed)
        try:
            convert.load(path)
        except ValueError:
            refused += 1
    assert refused > 10


def test_errors_of_names_and_folders(made, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*thetas\.state"):
        convert.load(tmp_path / "thetas.state")
    (tmp_path / "link.state").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"link\.state is neither a file nor a folder, but a broken link"):
        convert.load(tmp_path / "link.state")
    (tmp_path / "link.state").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"has no weights: expected model\.safetensors or .*got pytorch_model\.bin\. Py"
    ):
        convert.load(tmp_path)
    (tmp_path / "theta.state").write_bytes(made.packed(made.theta("celo")))
    assert convert.load(tmp_path)[0].spec["kind"] == "celo"
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"name one of .*model\.safetensors, .*theta\.state"):
        convert.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "theta.state").rename(tmp_path / "Theta.STATE")
    assert convert.load(tmp_path)[0].spec["kind"] == "celo"
    (tmp_path / "Theta.STATE").rename(tmp_path / "theta.state")
    (tmp_path / "other.state").write_bytes(b"")
    with pytest.raises(ValueError, match=r"several files of weights: name one of .*other\.state, .*theta\.state"):
        convert.load(tmp_path)
    with pytest.raises(ValueError, match=r"no format 'ceelo'. Did you mean .*celo.*Known: velo, "):
        convert.load(tmp_path / "theta.state", "ceelo")
    with pytest.raises(ValueError, match="it has the arrays of celo or celo-rule, not of 'velo'"):
        convert.load(tmp_path / "theta.state", "velo")


def test_errors_of_the_command(made, tmp_path, capsys):
    source = made.write_folder(tmp_path / "elo", made.pylo_mlp(made.theta("adafac-mlp"))) / "model.safetensors"
    before = source.read_bytes()
    (tmp_path / "folder.safetensors").mkdir()
    for out, message in (
        ("out.bin", "must end in .safetensors, got"),
        ("elo/model.safetensors", "must be new or one of this library"),
        ("", "must end in .safetensors, got"),
        ("folder.safetensors", "must not be a folder, got"),
        ("elo/model.safetensors/o.safetensors", "cannot be written (Not a directory): name a file in a folder"),
    ):
        with pytest.raises(SystemExit):
            command_line.main(["convert", str(source), str(tmp_path / out)])
        assert message in capsys.readouterr().err
    assert source.read_bytes() == before
    (tmp_path / "o.safetensors").touch()
    assert command_line.main(["convert", str(source), str(tmp_path / "o.safetensors"), "--format", "elo"]) == 0
    assert capsys.readouterr().out
    assert command_line.main(["convert", str(source), str(tmp_path / "o.safetensors"), "--format", "mulo"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'o.safetensors'}: mulo, a factored_mlp with 197 weights"
    ]


def test_without_msgpack_the_error_names_the_extra(made, tmp_path, monkeypatch):
    path = tmp_path / "theta.state"
    path.write_bytes(made.packed(made.theta("celo")))
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[convert\]'"):
        convert.load(path)


def test_weights_that_were_not_converted_are_refused_with_the_command(made, tmp_path):
    path = made.write_folder(tmp_path / "elo", made.pylo_mlp(made.theta("adafac-mlp"))) / "model.safetensors"
    with pytest.raises(ValueError, match="learned-optim convert"):
        learned_optim.learned_optimizer(path)
    (tmp_path / "theta.state").write_bytes(made.packed(made.theta("celo")))
    with pytest.raises(ValueError, match="learned-optim convert"):
        learned_optim.learned_optimizer(tmp_path / "theta.state")
