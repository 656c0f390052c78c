"""Implicit MAML: adaptation is pulled towards where it begins, and its minimum differentiated, not its steps.

Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", https://arxiv.org/abs/1909.04630
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts
from meta_train.unroll.capabilities import require_bilevel

_CLIP_NORM = 10.0  # of inner and outer gradients: nothing in the meta-gradient keeps inner steps from overshooting


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    inner_rate: float | None = None,
    strength: float | None = None,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: all of it is adapted.
      key: random key of the initial parameters.
      num_steps: inner steps, which are to come near the minimum; None: 16.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent; None: 0.1 where episodes classify, else 0.005.
      strength: λ of the pull; None: 2 where episodes classify, else 10.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=16)
    inner_rate = (0.1 if episodes.classifies else 0.005) if inner_rate is None else inner_rate
    strength = (2.0 if episodes.classifies else 10.0) if strength is None else strength
    inner_optimizer = optax.chain(optax.clip_by_global_norm(_CLIP_NORM), optax.sgd(inner_rate))
    problem = problems.initial_parameters(episodes, network, inner_optimizer, num_steps)
    bilevel = problems.proximal(require_bilevel(problem, "imaml"), strength=strength)

    def adapt(theta, key, support, query_inputs, num_steps):
        episode = Episode(support, support)  # the inner loss does not look at the query set
        step = lambda inner, key: (inner_update(bilevel, inner_optimizer, key, theta, inner, episode), None)
        start = UnrolledState(theta, inner_optimizer.init(theta))
        inner, _ = jax.lax.scan(step, start, jax.random.split(key, num_steps))
        return network.apply(inner.params, query_inputs)

    return Learner(
        name="imaml",
        description="initial parameters, differentiated at the minimum that they pull adaptation towards",
        theta=problems.initial_theta(episodes, network, key),
        estimator=estimators.implicit(
            bilevel,
            inner_optimizer=inner_optimizer,
            inner_steps=num_steps,
            num_particles=num_particles,
            solver=estimators.linear_solvers.conjugate_gradient(max_steps=5, tolerance=1e-3),
            fresh_start=True,
        ),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
        clip_norm=_CLIP_NORM,
    )
