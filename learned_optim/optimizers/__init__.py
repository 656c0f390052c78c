"""The architectures by name: those of the library, of installed packages, and those that a user registers.

To add one to the library, write a file in this folder, named after the kind like its constructor, import it below and
add it to `_CONSTRUCTORS`. A package offers its own architecture by an entry point of the group
`learned_optim.architectures`, whose name is the kind and whose object is the constructor:

    [project.entry-points."learned_optim.architectures"]
    my_optimizer = "my_package.my_optimizer:my_optimizer"

The constructor keeps the contract of `register_architecture`. It is imported when a file of its kind is first loaded.
"""

from collections.abc import Callable
import inspect
from typing import Any

from learned_optim import installed
from learned_optim.base import LearnedOptimizer
from learned_optim.optimizers.adam_residual import adam_residual as adam_residual
from learned_optim.optimizers.adaptive_muon import adaptive_muon as adaptive_muon
from learned_optim.optimizers.celo import celo as celo
from learned_optim.optimizers.celo2 import celo2 as celo2
from learned_optim.optimizers.coordinatewise_lstm import coordinatewise_lstm as coordinatewise_lstm
from learned_optim.optimizers.factored_mlp import factored_mlp as factored_mlp
from learned_optim.optimizers.hierarchical_mlp import hierarchical_mlp as hierarchical_mlp
from learned_optim.optimizers.learned_adam import learned_adam as learned_adam
from learned_optim.optimizers.learned_momentum import learned_momentum as learned_momentum
from learned_optim.optimizers.learned_schedule import learned_schedule as learned_schedule
from learned_optim.optimizers.learned_sgd import learned_sgd as learned_sgd
from learned_optim.optimizers.mlp import mlp as mlp
from learned_optim.optimizers.prodigy_muon import prodigy_muon as prodigy_muon
from learned_optim.optimizers.prodigy_residual import prodigy_residual as prodigy_residual
from learned_optim.optimizers.rnnprop import rnnprop as rnnprop
from learned_optim.optimizers.secant_muon import secant_muon as secant_muon
from learned_optim.optimizers.star import star as star
from learned_optim.optimizers.velo import velo as velo

_CONSTRUCTORS: tuple[Callable[..., LearnedOptimizer], ...] = (
    adam_residual,
    adaptive_muon,
    celo,
    celo2,
    coordinatewise_lstm,
    factored_mlp,
    hierarchical_mlp,
    learned_adam,
    learned_momentum,
    learned_schedule,
    learned_sgd,
    mlp,
    prodigy_muon,
    prodigy_residual,
    rnnprop,
    secant_muon,
    star,
    velo,
)

KINDS: dict[str, Callable[..., LearnedOptimizer]] = {constructor.__name__: constructor for constructor in _CONSTRUCTORS}
"""The constructors of the library's architectures, by kind."""

ENTRY_POINTS = "learned_optim.architectures"

_registered: dict[str, Callable[..., LearnedOptimizer]] = {}


def register_architecture(kind: str, constructor: Callable[..., LearnedOptimizer]) -> None:
    """Registers an architecture of your own, so that its optimizers can be saved, loaded and evaluated.

    Call it in every program that loads files of this kind, or declare an entry point in your package instead.

    Args:
      kind: the value of `spec["kind"]` of its optimizers. Registering a kind again replaces its constructor.
      constructor: returns a `LearnedOptimizer`. Its arguments are the other entries of the spec, without
        `feature_version` unless it has an argument of that name, because it can build several versions.

    Raises:
      ValueError: if the library has an architecture of that name.
      TypeError: if the kind is not a string or the constructor is not callable.

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
        raise TypeError(
            f"register_architecture takes a string and a callable constructor, got {kind!r} and {constructor!r}."
        )
    if kind in KINDS:
        raise ValueError(f"{kind!r} is an architecture of learned_optim: choose another kind.")
    _registered[kind] = constructor


def constructor_of(kind: str) -> Callable[..., LearnedOptimizer]:
    """Returns the constructor of an architecture.

    Raises:
      ValueError: if no architecture has that name, or if the package that offers it cannot be imported.
    """
    if kind in KINDS:
        return KINDS[kind]
    if kind in _registered:
        return _registered[kind]
    offers = installed.offers(ENTRY_POINTS)
    offered = [offer for offer in offers if offer.name == kind]
    if len({offer.package for offer in offered}) > 1:
        packages = " and ".join(repr(offer.package) for offer in offered)
        raise ValueError(f"the architecture {kind!r} is offered by the packages {packages}: uninstall all but one.")
    if offered:
        return _load(kind, offered[0])
    others = "".join(f" The installed package {offer.package!r} offers {offer.name!r}." for offer in offers)
    raise ValueError(
        f"there is no architecture {kind!r}. Known: {', '.join(sorted({*KINDS, *_registered}))}.{others} "
        f"If it is your own, call learned_optim.register_architecture({kind!r}, constructor) first, or install the "
        "package that provides it into this environment with pip. If it was saved by a newer version of learned_optim, "
        "upgrade."
    )


def build(spec: dict[str, Any]) -> LearnedOptimizer:
    """Makes the optimizer that a spec describes.

    Raises:
      ValueError: if there is no such architecture, if its feature version differs, or if its constructor does not
        accept the arguments.

    Example:
      >>> build({"kind": "mlp", "feature_version": 1, "hidden_sizes": [4]}).spec["hidden_sizes"]
      [4]
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str):
        raise ValueError(f"a spec must be a dict with a string 'kind', got {spec!r}.")
    arguments = dict(spec)
    kind, version = arguments.pop("kind"), arguments.pop("feature_version", None)
    constructor = constructor_of(kind)
    if "feature_version" in inspect.signature(constructor).parameters:  # it can build several
        arguments["feature_version"] = version
    try:
        optimizer = constructor(**arguments)
    except TypeError as error:
        raise ValueError(f"the spec does not fit the architecture {kind!r}: {error}. Got {spec}.") from error
    if not isinstance(optimizer, LearnedOptimizer):
        raise ValueError(
            f"the constructor of the architecture {kind!r} must return a LearnedOptimizer, got "
            f"{type(optimizer).__name__}: let it return what learned_optim.base.define makes."
        )
    if version != (supported := optimizer.spec["feature_version"]):
        raise ValueError(
            f"spec['feature_version'] of {kind!r} must be {supported}, got {version!r}: "
            "install the version of learned_optim that saved it."
        )
    return optimizer


def _load(kind: str, offer: installed.Offer) -> Any:
    """The constructor that a package offers."""
    said = f"the architecture {kind!r} comes from {installed.describe(offer)}, which"
    try:
        constructor = offer.point.load()
    except Exception as error:  # importing a package may raise anything
        raise ValueError(
            f"{said} cannot be loaded: {type(error).__name__}: {error}. Install the package again, or tell its authors."
        ) from error
    if not callable(constructor):
        raise ValueError(f"{said} must be a constructor, got {type(constructor).__name__}: tell the package's authors.")
    return constructor
