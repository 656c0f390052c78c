"""WarpGrad: layers between those that adaptation moves, which make its steps good wherever it passes.

Flennerhag et al. 2020, "Meta-Learning with Warped Gradient Descent", https://arxiv.org/abs/1909.00025
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.few_shot.warped import split
from meta_train.few_shot.warped import warped
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    inner_rate: float | None = None,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: made with haiku; it gets a warp layer after every layer but the last.
      key: random key of the initial parameters.
      num_steps: inner steps; None: 5.
      num_particles: episodes in an outer step, from each of which come 4 points of the buffer; None: 8 where episodes
        classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent; None: 0.1 where episodes classify, else 0.01.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=5)
    inner_rate = (0.1 if episodes.classifies else 0.01) if inner_rate is None else inner_rate
    network, inner_optimizer = warped(network), optax.sgd(inner_rate)
    theta = problems.initial_theta(episodes, network, key)
    layers = sorted(split(theta)[0])  # those that adapt; the warp layers stay as theta has them
    problem = problems.initial_parameters(episodes, network, inner_optimizer, num_steps, adapt=layers)

    def adapt(theta, key, support, query_inputs, num_steps):
        run = problems.adaptation(episodes, network, inner_optimizer, num_steps, adapt=layers)
        return run(theta, key, support, query_inputs)

    return Learner(
        name="warpgrad",
        description="initial parameters and warp layers, by single steps from points of past trajectories",
        theta=theta,
        estimator=estimators.warp_grad(
            problem,
            inner_optimizer=inner_optimizer,
            num_steps=num_steps,
            num_points=4,
            buffer_size=4 * num_steps,
            num_particles=num_particles,
        ),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
        clip_norm=10.0,
    )
