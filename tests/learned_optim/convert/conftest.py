"""Files of other projects, made with small random weights, and what they hold by the names of the references."""

import json
import types

import msgpack
import numpy as np
import pytest
import safetensors.numpy

GROUP_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
HIDDEN, LSTM, NETWORKS = 4, 6, 3


def _network(lead, hidden=HIDDEN):
    shapes = {f"w0__{i}": (*lead, size, hidden) for i, size in enumerate(GROUP_SIZES)}
    shapes |= {"b0": (*lead, hidden), "w1": (*lead, hidden, hidden), "b1": (*lead, hidden)}
    return {"ff_mod_stack": {"~": {**shapes, "w2": (*lead, hidden, 3), "b2": (*lead, 3)}}}


def _linear(before, after):
    return {"w": (before, after), "b": (after,)}


def _recurrent(num_inputs, **outputs):
    layers = {name: _linear(num_inputs, LSTM) for name in ("linear", "linear_1", "linear_2")}
    layers |= {"rnn/linear": _linear(2 * LSTM, 4 * LSTM)}
    layers |= {name: _linear(LSTM, size) for name, size in outputs.items()}
    return {"lstm_init_state": {"hidden": (1, LSTM), "cell": (1, LSTM)}, "rnn_params": layers}


_NN = {"w0": (39, HIDDEN), "b0": (HIDDEN,), "w1": (HIDDEN, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 2), "b2": (2,)}
_MLP = [_linear(19, HIDDEN), _linear(HIDDEN, HIDDEN), _linear(HIDDEN, 2)]
_RNN_MLP = [_linear(54, HIDDEN), _linear(HIDDEN, HIDDEN), _linear(HIDDEN, 18)]
SHAPES = {
    "velo": {**_network((NETWORKS,)), **_recurrent(30, rnn_to_controls=NETWORKS, step_size=1)},
    "celo": {**_network((1,)), **_recurrent(18, rnn_to_controls=1, step_size=1)},
    "celo-adam": _recurrent(18, step_size=1),
    "celo2": _network(()),
    "mlp": {f"mlp/~/linear_{i}": layer for i, layer in enumerate(_MLP)},
    "adafac-mlp": {"nn": {"~": _NN}, "momentum_decays": (3,), "rms_decays": (1,), "adafactor_decays": (3,)},
    "rnn-mlp": {
        "ffmod_params": {f"mlp/~/linear_{i}": layer for i, layer in enumerate(_RNN_MLP)},
        "lstm_init_state": {"hidden": (1, LSTM), "cell": (1, LSTM)},
        "rnn_params": {"rnn/linear": _linear(52 + LSTM, 4 * LSTM)},
        "rnn_to_ff_params": {"rnn_to_ff": _linear(LSTM, 17)},
        "rnn_to_in_params": {"rnn_to_in": _linear(LSTM, 18)},
        "initial_from_mlp": (16,),
        "initial_from_lstm": (18,),
    },
}


def _drawn(shapes, rng):
    if isinstance(shapes, tuple):
        return rng.standard_normal(shapes, np.float32)
    return {name: _drawn(below, rng) for name, below in shapes.items()}


def theta(kind):
    """Random theta of a reference, nested dicts of float32 arrays."""
    return _drawn(SHAPES[kind], np.random.default_rng(0))


def flat(tree, prefix=""):
    """Arrays by their path, the keys joined by slashes."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {name: array for key, below in tree.items() for name, array in flat(below, f"{prefix}{key}/").items()}


def extension(array, code=1, dtype=None):
    """An array as flax writes it."""
    parts = (array.shape, dtype or array.dtype.name, array.tobytes())
    return msgpack.ExtType(code, msgpack.packb(parts))


def packed(tree):
    """The msgpack of nested dicts, as flax writes it."""
    return msgpack.packb(tree, default=extension)


def _torch(arrays):
    """A torch Linear has the weight (out, in)."""
    return {name: np.ascontiguousarray(np.swapaxes(x, -1, -2)) if x.ndim > 1 else x for name, x in arrays.items()}


def pylo_velo(theta):
    """The arrays of PyLO's two folders of VeLO: those of the recurrent network, and those of the bank."""
    layers = {
        "linear": "mix_layer1",
        "linear_1": "mix_layer2",
        "linear_2": "final_mix_layer",
        "rnn/linear": "lstm.linear",
    }
    rnn = {}
    for name, layer in theta["rnn_params"].items():
        rnn[f"{layers.get(name, name)}.weight"], rnn[f"{layers.get(name, name)}.bias"] = layer["w"].T.copy(), layer["b"]
    rnn["lstm_init_state.0"] = theta["lstm_init_state"]["hidden"]
    rnn["lstm_init_state.1"] = theta["lstm_init_state"]["cell"]
    bank = theta["ff_mod_stack"]["~"]
    first = np.concatenate([bank[f"w0__{i}"] for i in range(len(GROUP_SIZES))], axis=1)
    mlp = _torch({"input_weights_": first, "hidden_weights_.0": bank["w1"], "output_weights_": bank["w2"]})
    mlp |= {"input_bias_": bank["b0"], "hidden_bias_.0": bank["b1"], "output_bias_": bank["b2"]}
    copies = {name.replace("_.", ".").rstrip("_"): array[0] + 1.0 for name, array in mlp.items()}
    return rnn, {**mlp, **copies}


def pylo_mlp(theta):
    """The arrays of PyLO's μLO or ELO."""
    nn, names = theta["nn"]["~"], ("input", "linear_0", "output")
    found = {f"network.{name}.weight": nn[f"w{i}"].T.copy() for i, name in enumerate(names)}
    return found | {f"network.{name}.bias": nn[f"b{i}"] for i, name in enumerate(names)}


def pylo_celo2(theta):
    """The arrays of PyLO's Celo2, which are not transposed."""
    network = theta["ff_mod_stack"]["~"]
    found = {f"w0.{i}": network[f"w0__{i}"] for i in range(len(GROUP_SIZES))} | {"b0": network["b0"]}
    return found | {f"dense_{kind}.{i}": network[f"{kind}{i + 1}"] for kind in "wb" for i in range(2)}


def write_folder(folder, arrays, **config):
    """Writes a folder of PyLO."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def made():
    """The functions of this file that make files."""
    functions = (theta, flat, extension, packed, pylo_velo, pylo_mlp, pylo_celo2, write_folder)
    return types.SimpleNamespace(**{function.__name__: function for function in functions})
