"""The architectures by name. A new one is a file in this folder and a line in `KINDS`."""

from typing import Any

from learned_optim.base import LearnedOptimizer
from learned_optim.optimizers.coordinatewise_lstm import FEATURE_VERSION as _LSTM_VERSION
from learned_optim.optimizers.coordinatewise_lstm import coordinatewise_lstm
from learned_optim.optimizers.mlp import FEATURE_VERSION as _MLP_VERSION
from learned_optim.optimizers.mlp import mlp

# kind: (constructor, version of its input features and update rule)
KINDS = {
    "coordinatewise_lstm": (coordinatewise_lstm, _LSTM_VERSION),
    "mlp": (mlp, _MLP_VERSION),
}


def build(spec: dict[str, Any]) -> LearnedOptimizer:
    """Makes the optimizer that a spec describes.

    Raises:
      ValueError: if the kind or the feature version is not one that this version of the library has, or if the
        arguments do not fit the constructor.

    Example:
      >>> build({"kind": "mlp", "feature_version": 1, "hidden_sizes": [4]}).spec["hidden_sizes"]
      [4]
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str):
        raise ValueError(f"a spec must be a dict with a string 'kind', got {spec!r}.")
    arguments = dict(spec)
    kind, version = arguments.pop("kind"), arguments.pop("feature_version", None)
    if kind not in KINDS:
        raise ValueError(
            f"spec['kind'] must be one of {sorted(KINDS)}, got {kind!r}. "
            "If it was saved by a newer version, upgrade learned_optim."
        )
    constructor, supported = KINDS[kind]
    if version != supported:
        raise ValueError(
            f"spec['feature_version'] of {kind!r} must be {supported}, got {version!r}: "
            "install the version of learned_optim that saved it."
        )
    try:
        return constructor(**arguments)
    except TypeError as error:
        raise ValueError(f"the spec does not fit the architecture {kind!r}: {error}. Got {spec}.") from error
