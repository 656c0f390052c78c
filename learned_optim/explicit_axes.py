"""Support for meshes with explicit axes ("sharding in types").

On such a mesh JAX refuses operations whose output sharding is ambiguous, such as some reshapes and products. Inside an
optimizer the shardings of the results are known: updates and state are sharded like the parameters. The optimizer
therefore makes the axes automatic, and the compiler chooses the shardings of intermediate arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.core


def mesh_of(tree: Any) -> jax.sharding.Mesh | jax.sharding.AbstractMesh | None:
    """Returns the mesh with explicit axes on which arrays of the tree are sharded, or None if there is none."""
    for leaf in jax.tree.leaves(tree):
        sharding = _sharding(leaf)
        if isinstance(sharding, jax.NamedSharding) and _explicit(sharding.mesh):
            return sharding.mesh
    return None


def like(tree: Any, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> Any:
    """Returns the sharding of each array of a tree. It also fits arrays with further dimensions at the end."""
    spec = lambda leaf: getattr(_sharding(leaf), "spec", jax.P())
    return jax.tree.map(lambda leaf: jax.NamedSharding(mesh, spec(leaf)), tree)


def automatic(
    function: Callable[..., Any], mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, out_sharding: Any
) -> Callable[..., Any]:
    """Wraps a function: the mesh's explicit axes are automatic inside, its results are sharded as `out_sharding`."""
    return jax.sharding.auto_axes(function, axes=_explicit(mesh), out_sharding=out_sharding)


def _sharding(leaf):
    concrete = getattr(leaf, "sharding", None) if not isinstance(leaf, jax.core.Tracer) else None
    return concrete if isinstance(concrete, jax.NamedSharding) else jax.typeof(leaf).sharding


def _explicit(mesh):
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in types if kind == jax.sharding.AxisType.Explicit)
