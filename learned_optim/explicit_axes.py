"""Meshes with explicit axes ("sharding in types"), whose arrays refuse a reshape or a product that is ambiguous.

Inside of an optimizer nothing is ambiguous: updates and state lie as the parameters do. So there the axes are
automatic, as on other meshes, and the compiler chooses how to lay out what is in between.
"""

from collections.abc import Callable
from typing import Any

import jax


def mesh_of(tree: Any) -> jax.sharding.Mesh | jax.sharding.AbstractMesh | None:
    """The mesh with explicit axes that arrays of the tree lie on, or None if there is none."""
    for leaf in jax.tree.leaves(tree):
        sharding = _sharding(leaf)
        if isinstance(sharding, jax.NamedSharding) and _explicit(sharding.mesh):
            return sharding.mesh
    return None


def like(tree: Any, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> Any:
    """The shardings of a tree of arrays, each for its array or for one with further dimensions at the end."""
    spec = lambda leaf: getattr(_sharding(leaf), "spec", jax.P())
    return jax.tree.map(lambda leaf: jax.NamedSharding(mesh, spec(leaf)), tree)


def automatic(
    function: Callable[..., Any], mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, out_sharding: Any
) -> Callable[..., Any]:
    """The function with the mesh's explicit axes made automatic inside; its results are laid out as `out_sharding`."""
    return jax.sharding.auto_axes(function, axes=_explicit(mesh), out_sharding=out_sharding)


def _sharding(leaf):
    concrete = getattr(leaf, "sharding", None) if not isinstance(leaf, jax.core.Tracer) else None
    return concrete if isinstance(concrete, jax.NamedSharding) else jax.typeof(leaf).sharding


def _explicit(mesh):
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in types if kind == jax.sharding.AxisType.Explicit)
