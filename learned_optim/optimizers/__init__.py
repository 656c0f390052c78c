"""The architectures by name. A new one is a file in this folder and a line in the list of imports."""

import inspect
from typing import Any

from learned_optim.base import LearnedOptimizer

# One line per architecture, in alphabetical order: its constructor, which bears the name of its file and its kind.
from learned_optim.optimizers.adam_residual import adam_residual
from learned_optim.optimizers.celo import celo
from learned_optim.optimizers.celo2 import celo2
from learned_optim.optimizers.coordinatewise_lstm import coordinatewise_lstm
from learned_optim.optimizers.factored_mlp import factored_mlp
from learned_optim.optimizers.hierarchical_mlp import hierarchical_mlp
from learned_optim.optimizers.learned_adam import learned_adam
from learned_optim.optimizers.learned_momentum import learned_momentum
from learned_optim.optimizers.learned_schedule import learned_schedule
from learned_optim.optimizers.learned_sgd import learned_sgd
from learned_optim.optimizers.mlp import mlp
from learned_optim.optimizers.prodigy_muon import prodigy_muon
from learned_optim.optimizers.prodigy_residual import prodigy_residual
from learned_optim.optimizers.rnnprop import rnnprop
from learned_optim.optimizers.star import star
from learned_optim.optimizers.velo import velo

KINDS = {name: constructor for name, constructor in list(globals().items()) if inspect.isfunction(constructor)}

__all__ = [*KINDS]  # what `learned_optim` passes on to its users


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
    try:
        optimizer = KINDS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"the spec does not fit the architecture {kind!r}: {error}. Got {spec}.") from error
    if version != (supported := optimizer.spec["feature_version"]):
        raise ValueError(
            f"spec['feature_version'] of {kind!r} must be {supported}, got {version!r}: "
            "install the version of learned_optim that saved it."
        )
    return optimizer
