"""SGD with momentum as a problem: the steps by hand, with rates that change from step to step."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import Bilevel
from meta_train.problems import momentum_descent


def test_steps_by_hand():
    rates, decays = np.array([0.1, 0.5, 0.2], np.float32), np.array([0.9, 0.0, 0.5], np.float32)
    bilevel = Bilevel(
        inner_loss=lambda params, theta, key, data: jnp.sum(data * params["w"] ** 2) + jnp.sum(params["b"]),
        outer_loss=lambda params, theta, key, data: params["b"] + jnp.sum(theta["rates"]),
        init=lambda key, theta: {"w": jnp.array([1.0, 2.0]), "b": jnp.asarray(3.0)},
        data=np.array([0.5, 1.5], np.float32),
        name="bowl",
    )
    theta = {"rates": rates, "decays": decays}
    problem = momentum_descent(bilevel, lambda theta, step: (theta["rates"][step], theta["decays"][step]))
    assert (problem.name, problem.bilevel, problem.momentum.bilevel) == ("bowl", None, bilevel)
    state = problem.init(jax.random.key(0), theta, 3)
    step = jax.jit(problem.step)
    numbers, velocity = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    for rate, decay in zip(rates, decays, strict=True):
        state, loss = step(jax.random.key(1), theta, state, problem.data)
        gradient = np.array([numbers[0], 3 * numbers[1], 1.0])
        velocity = decay * velocity - (1 - decay) * gradient
        numbers = numbers + rate * velocity
        np.testing.assert_allclose(np.append(state.params["w"], state.params["b"]), numbers, rtol=1e-6)
        np.testing.assert_allclose(loss, numbers[2] + rates.sum(), rtol=1e-6)
