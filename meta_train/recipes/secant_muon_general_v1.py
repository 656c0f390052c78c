"""`adaptive_muon` with a slow momentum, secants and two networks, 605 weights; by backpropagation from final losses.

Nothing is released of it: with six tasks its networks learn what holds for these alone (docs/lab-log.md). The sibling
without them, `secant_muon_plain_v1`, is. `benchmarks/network_gain.py` measures what the networks add.
"""

import jax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# For each task: episodes in an outer step, the longest of them in inner steps, whether held-out losses count, and the
# loss, relative to that of an untrained model, below which differences count less and less.
TASKS = {
    "digits-mlp": (4, 1000, False, 0.01),
    "digits-mlp-layernorm": (2, 400, True, 1e-5),
    "digits-softmax": (6, 1000, False, 0.01),
    "docs-gru-small": (2, 400, False, 1e-5),
    "diabetes-mlp": (6, 1000, True, 1e-5),
    "quadratic-ill-conditioned": (8, 1000, False, 1e-5),
}


def recipe(num_steps: int = 64, seed: int = 0, hidden_size: int = 8, step_hidden_size: int = 16) -> Recipe:
    """Episodes of 100 to 1,000 steps on six tasks, a quarter of unknown length.

    Args:
      num_steps, seed: fields of the recipe.
      hidden_size, step_hidden_size: of the architecture; 0 leaves a network out.
    """
    optimizer = learned_optim.secant_muon(hidden_size, step_hidden_size)
    theta = optimizer.init(jax.random.key(seed))
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            parts.backprop_on_final_losses(
                optimizer,
                name,
                num_particles=episodes,
                horizon=truncation.power_law(100, longest, 1.3),
                horizon_dropout=0.25,
                held_out=held_out,
                floor=floor,
            )
            for name, (episodes, longest, held_out, floor) in TASKS.items()
        ),
        outer_optimizer=parts.adam_with_pull(theta, num_steps, peak_rate=1e-2, final_rate=5e-4, pull_weight=0.0),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        program_per_task=True,
    )
