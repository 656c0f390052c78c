"""The architectures by name: those of the library, of installed packages, and those that a user registers.

A new one of the library is a file in this folder and a line in the list of imports. A package offers its own by an
entry point of the group `learned_optim.architectures`, whose name is the kind and whose object is the constructor:

    [options.entry_points]
    learned_optim.architectures =
        my_optimizer = my_package.my_optimizer:my_optimizer
"""

from collections.abc import Callable
import importlib.metadata
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

ENTRY_POINTS = "learned_optim.architectures"

_registered: dict[str, Callable[..., LearnedOptimizer]] = {}


def register_architecture(kind: str, constructor: Callable[..., LearnedOptimizer]) -> None:
    """Makes an architecture of your own known, so that its optimizers can be saved, loaded and evaluated.

    Call it wherever files of the kind are loaded, or let your package declare the entry point instead.

    Args:
      kind: the name that `spec["kind"]` of its optimizers has. To register a kind again replaces it.
      constructor: gives a `LearnedOptimizer` from the other entries of its spec, but for `feature_version`.

    Raises:
      ValueError: if the library has an architecture of that name.
      TypeError: if the kind is not a string or the constructor cannot be called.

    Example:
      >>> import jax, jax.numpy as jnp, learned_optim
      >>> from learned_optim.base import define, per_tensor
      >>> def sign_descent(step_size: float = 0.1):
      ...     init = lambda key: {"scale": jnp.ones(())}
      ...     update = lambda theta: lambda grad, param, slots, step: (
      ...         -step_size * theta["scale"] * jnp.sign(grad), slots)
      ...     rule = lambda theta, horizon: per_tensor((), update(theta))
      ...     return define({"kind": "sign_descent", "feature_version": 1, "step_size": step_size}, init, rule)
      >>> learned_optim.register_architecture("sign_descent", sign_descent)
      >>> learned_optim.optimizers.build(sign_descent(0.2).spec).spec["step_size"]
      0.2
    """
    if not isinstance(kind, str) or not callable(constructor):
        raise TypeError(f"register_architecture takes a name and a constructor, got {kind!r} and {constructor!r}.")
    if kind in KINDS:
        raise ValueError(f"{kind!r} is an architecture of learned_optim itself: choose another kind.")
    _registered[kind] = constructor


def constructor_of(kind: str) -> Callable[..., LearnedOptimizer]:
    """The constructor of an architecture.

    Raises:
      ValueError: if there is none of that name, or the package that offers it cannot be imported.
    """
    if kind in KINDS:
        return KINDS[kind]
    if kind in _registered:
        return _registered[kind]
    offered = _entry_points()
    if kind in offered:
        try:
            return offered[kind].load()
        except Exception as error:  # whatever a package does when it is imported
            raise ValueError(
                f"the architecture {kind!r} comes from the entry point {offered[kind].value!r} of an installed "
                f"package, which cannot be loaded: {type(error).__name__}: {error}"
            ) from error
    raise ValueError(
        f"there is no architecture {kind!r}. Known: {', '.join(sorted({*KINDS, *_registered, *offered}))}. "
        f"If it is your own, call learned_optim.register_architecture({kind!r}, constructor) first, or install the "
        "package that has it; if it was saved by a newer version of learned_optim, upgrade."
    )


def build(spec: dict[str, Any]) -> LearnedOptimizer:
    """Makes the optimizer that a spec describes.

    Raises:
      ValueError: if there is no such architecture, or not of this feature version, or if the arguments do not fit its
        constructor.

    Example:
      >>> build({"kind": "mlp", "feature_version": 1, "hidden_sizes": [4]}).spec["hidden_sizes"]
      [4]
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str):
        raise ValueError(f"a spec must be a dict with a string 'kind', got {spec!r}.")
    arguments = dict(spec)
    kind, version = arguments.pop("kind"), arguments.pop("feature_version", None)
    constructor = constructor_of(kind)
    try:
        optimizer = constructor(**arguments)
    except TypeError as error:
        raise ValueError(f"the spec does not fit the architecture {kind!r}: {error}. Got {spec}.") from error
    if version != (supported := optimizer.spec["feature_version"]):
        raise ValueError(
            f"spec['feature_version'] of {kind!r} must be {supported}, got {version!r}: "
            "install the version of learned_optim that saved it."
        )
    return optimizer


def _entry_points():
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
