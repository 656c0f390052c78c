"""What an outer optimizer or a search reports about itself, for the metrics of a run."""

from typing import Any

import jax


def reported(outer_state: Any) -> dict[str, jax.Array]:
    """Gathers what the parts of an outer state report: those with a method `report`, which gives arrays by name.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from meta_train.outer import safeguards
      >>> tx = optax.chain(optax.sgd(0.1), safeguards.safeguarded(optax.identity(), max_step=1.0))
      >>> sorted(reported(tx.init(jnp.ones(3))))
      ['rollbacks', 'shortened', 'skipped', 'step_norm']
    """
    tells = lambda node: hasattr(node, "report")
    parts = [node for node in jax.tree.leaves(outer_state, is_leaf=tells) if tells(node)]
    return {name: value for part in parts for name, value in part.report().items()}
