"""MAML and its kin: initial parameters from which few inner steps lead far, by backpropagation through these steps.

`maml` and `fomaml`, which takes the inner gradients as constants: Finn, Abbeel, Levine 2017, "Model-Agnostic
Meta-Learning for Fast Adaptation of Deep Networks", https://arxiv.org/abs/1703.03400

`anil`, of which the last layer alone adapts: Raghu, Raghu, Bengio, Vinyals 2020, "Rapid Learning or Feature Reuse?
Towards Understanding the Effectiveness of MAML", https://arxiv.org/abs/1909.09157

`meta_sgd`, with a learned rate for each coordinate: Li, Zhou, Chen, Li 2017, "Meta-SGD: Learning to Learn Quickly for
Few-Shot Learning", https://arxiv.org/abs/1707.09835
"""

import functools

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts
from meta_train.unroll import truncation

_FEW_STEPS = 5  # up to here the steps are kept in memory for the way back, and beyond that made again


def _learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    inner_rate: float | None = None,
    name: str,
    description: str,
    second_derivatives: bool = True,
    learned_rates: bool = False,
    head_alone: bool = False,
) -> Learner:
    """Builds a learner of initial parameters; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: what adapts.
      key: random key of the initial parameters.
      num_steps: inner steps; None: 1.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent. None: 0.4 to tell up to 10 classes apart, 0.1 for more, 0.01 for regression.
        Where rates are learned, each coordinate begins with it; None is then 0.1 where episodes classify, else 0.01.
      name: the method's.
      description: a sentence about it.
      second_derivatives: whether the inner gradients are differentiated.
      learned_rates: whether each coordinate's rate is learned.
      head_alone: whether the last layer alone adapts.

    Raises:
      ValueError: if an argument is out of range.
    """
    if inner_rate is None:
        few = episodes.num_outputs <= 10 and not learned_rates
        inner_rate = (0.4 if few else 0.1) if episodes.classifies else 0.01
    adapted_layers = (network.head,) if head_alone else None
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=1)
    inner_optimizer = optax.sgd(1.0 if learned_rates else inner_rate)
    problem = problems.initial_parameters(
        episodes,
        network,
        inner_optimizer,
        num_steps,
        second_derivatives=second_derivatives,
        learned_rates=learned_rates,
        adapt=adapted_layers,
    )

    def adapt(theta, key, support, query_inputs, num_steps):
        run = problems.adaptation(
            episodes, network, inner_optimizer, num_steps, learned_rates=learned_rates, adapt=adapted_layers
        )
        return run(theta, key, support, query_inputs)

    return Learner(
        name=name,
        description=description,
        theta=problems.initial_theta(
            episodes, network, key, learned_rates=inner_rate if learned_rates else None, adapt=adapted_layers
        ),
        estimator=estimators.full_backprop(
            problem,
            num_particles=num_particles,
            horizon=truncation.constant(num_steps),
            rematerialize=num_steps > _FEW_STEPS,
        ),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )


maml = functools.partial(
    _learner, name="maml", description="initial parameters, by backpropagation through the inner steps"
)
fomaml = functools.partial(
    _learner,
    name="fomaml",
    description="initial parameters, by MAML without second derivatives",
    second_derivatives=False,
)
anil = functools.partial(
    _learner, name="anil", description="initial parameters, of which the last layer alone adapts", head_alone=True
)
meta_sgd = functools.partial(
    _learner,
    name="meta-sgd",
    description="initial parameters and a rate for each coordinate, by backpropagation through the inner steps",
    learned_rates=True,
)
