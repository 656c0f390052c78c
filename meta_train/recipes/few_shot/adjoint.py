"""A-MAML: adaptation is a gradient flow from the initial parameters, differentiated by the adjoint method.

Li, Wang, Kirby, Zhe 2021, "Meta-Learning with Adjoint Methods", https://arxiv.org/abs/2110.08432
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts
from meta_train.unroll.capabilities import require_bilevel


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    duration: float | None = None,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: all of it is adapted.
      key: random key of the initial parameters.
      num_steps: steps of gradient descent that stand for the flow in `adapt`: each has the rate duration / num_steps,
        so that more steps go on for longer. None: 16. In training a solver chooses its own steps.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      duration: of the flow; None: 1.6 where episodes classify, else 0.16.

    Raises:
      ValueError: if an argument is out of range.
      ModuleNotFoundError: if diffrax is not installed.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=16)
    duration = (1.6 if episodes.classifies else 0.16) if duration is None else duration
    inner_optimizer = optax.sgd(duration / num_steps)
    problem = problems.initial_parameters(episodes, network, inner_optimizer, num_steps)
    flow = problems.gradient_flow(require_bilevel(problem, "adjoint"), duration=duration)

    def adapt(theta, key, support, query_inputs, num_steps):
        return problems.adaptation(episodes, network, inner_optimizer, num_steps)(theta, key, support, query_inputs)

    return Learner(
        name="adjoint",
        description="initial parameters of a gradient flow, differentiated by the adjoint method",
        theta=problems.initial_theta(episodes, network, key),
        estimator=_estimator(flow, num_particles),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )


def _estimator(flow, num_particles):
    import diffrax  # here, so that all other methods work without it

    controller = diffrax.PIDController(rtol=1e-3, atol=1e-4)
    return estimators.adjoint(flow, num_particles=num_particles, step_controller=controller, max_steps=256)
