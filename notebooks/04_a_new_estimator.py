# %% [markdown]
# # A new estimator
#
# You have an idea for estimating meta-gradients with less noise. This notebook shows what to write, how to test that
# it is right, and how to find out whether it is better.
#
# The example is SPSA. Evolution strategies add normal noise to theta. SPSA ([Spall
# 1992](https://doi.org/10.1109/9.119632)) adds the same amount to every weight, or subtracts it, with random signs.

# %%
import os

import jax
import jax.flatten_util
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
from meta_train import Estimator
from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

# %% [markdown]
# ## What to write
#
# A `Problem` is a computation that is repeated step by step, with a loss at each step: `init(key, theta, num_steps)`
# and `step(key, theta, state, data)`. An `Estimator` is two functions:
#
# - `init(key, theta)` returns a state, whose leaves have a leading axis of particles;
# - `estimate(key, theta, state, data, axis_name)` returns the gradient, the next state and some diagnostics.
#
# The library has the other parts. `episodes` runs whole episodes. `mean_over_particles` averages over particles and
# devices, leaves out particles that are not finite, and computes the variance.
#
# Note that both signs of a pair get the *same* key, so that they see the same minibatches.


# %%
def spsa(problem, *, num_particles, horizon, std=0.01):
    """Whole episodes, under one perturbation of random signs and its negative for each particle."""

    def pair(key, theta, state, data):
        num_steps, episode_key, noise_key = episodes.begin(key, state, horizon)
        flat, unravel = jax.flatten_util.ravel_pytree(theta)
        signs = jax.random.rademacher(noise_key, flat.shape, flat.dtype)
        thetas = jax.vmap(unravel)(jnp.stack([flat + std * signs, flat - std * signs]))
        run = lambda theta: episodes.mean_loss(problem, episode_key, theta, num_steps, horizon.high, data)
        means, losses = jax.vmap(run)(thetas)
        gradient = unravel((means[0] - means[1]) / (2 * std) * signs)
        return gradient, jnp.mean(means), 2 * num_steps, jnp.mean(losses, axis=0)

    def init(key, theta):
        return episodes.start(horizon, num_particles)

    def estimate(key, theta, state, data, axis_name=None):
        gradients, means, inner_steps, losses = jax.vmap(lambda s: pair(key, theta, s, data))(state)
        gradient, info, _ = mean_over_particles(gradients, means, inner_steps, axis_name, losses)
        return gradient, episodes.following(state), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)


# %% [markdown]
# ## Is it right?
#
# Test it where the answer is known. On ½ zᵀHz the gradient is Hz. With normal noise the variance of one pair, summed
# over D weights, is (D + 1) |Hz|². Random signs should give (D - 1) |Hz|²: a sign times itself is always 1, so a
# weight does not disturb its own estimate.
#
# The error bars are part of the test. They must be small enough to reject a wrong estimator.

# %%
count = 2_000 if small else 100_000


def quadratic(size):
    matrix = jax.random.normal(jax.random.key(size), (size, size)) / np.sqrt(size)
    step = lambda key, theta, state, data: (state, 0.5 * theta @ data @ theta)
    return Problem(lambda key, theta, num_steps: (), step, matrix @ matrix.T + jnp.eye(size))


def check(make, size):
    """Distance of the mean from the gradient in standard errors, and the variance of a pair in units of |gradient|²."""
    problem, theta = quadratic(size), jnp.arange(1.0, size + 1)
    estimator = make(problem, num_particles=count, horizon=truncation.constant(1), std=0.5)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    right = problem.data @ theta
    distance = jnp.linalg.norm(gradient - right) / jnp.linalg.norm(right)
    error = jnp.sqrt(info.gradient_variance) / jnp.linalg.norm(right)
    return float(distance), float(error), float(info.gradient_variance * count / jnp.sum(right**2))


sizes = (2, 4) if small else (1, 2, 4, 8, 16)
figure, panel = plt.subplots(figsize=(5, 3), dpi=75, layout="constrained")
print("weights  estimator  distance from the gradient  standard error  variance of a pair")
for name, make, extra in (("full_es", estimators.full_es, 1), ("spsa", spsa, -1)):
    found = [check(make, size) for size in sizes]
    for size, (distance, error, variance) in zip(sizes, found, strict=True):
        print(f"{size:7}  {name:9}  {distance:26.4f}  {error:14.4f}  {variance:18.2f}")
    panel.plot(sizes, [variance for _, _, variance in found], "o", label=name)
    panel.plot(sizes, np.array(sizes) + extra, "k", linewidth=0.7)
panel.set(xlabel="weights D", ylabel="variance of a pair / |gradient|²", title="lines: D + 1 and D - 1")
panel.legend()
plt.show()

# %% [markdown]
# All means are within three standard errors of the gradient, and the variances are on the predicted lines. With one
# weight the sign cancels, and the estimate is exact, because the loss is quadratic.
#
# A test that cannot fail is worthless. Replace the 2 in `2 * std` by a 3, and look at the distances.
#
# ## Is it better?
#
# Now a problem whose answer is not known. Theta is the four numbers of Adam, trained on random quadratics in runs of
# 50 inner steps. The cell measures the variance at the beginning, and then trains with each estimator.

# %%
optimizer = learned_optim.learned_adam(1e-3)
problem = problems.optimizer_weights(optimizer, tasks.get("quadratic"))
theta = optimizer.init(jax.random.key(0))
horizon = truncation.constant(50)
pairs = 4 if small else 32
contenders = {
    "full_es": estimators.full_es(problem, num_particles=pairs, horizon=horizon, std=0.05),
    "spsa": spsa(problem, num_particles=pairs, horizon=horizon, std=0.05),
}

figure, panel = plt.subplots(figsize=(6, 3), dpi=75, layout="constrained")
for name, estimator in contenders.items():
    num_steps = 5 if small else 300
    result = fit(estimator, theta, optax.adam(3e-2), num_steps=num_steps, steps_per_dispatch=50, progress=False)
    losses = np.array([row["loss"] for row in result.metrics])
    variance = np.mean([row["gradient_variance"] for row in result.metrics[: num_steps // 10 or 1]])
    print(f"{name:8} variance of the first gradients {variance:.2e}, meta-loss at the end {losses[-20:].mean():.3f}")
    panel.plot(losses, label=name, linewidth=1)
panel.set(xlabel="outer step", ylabel="meta-loss")
panel.legend()
plt.show()

# %% [markdown]
# With D = 4 the predicted ratio of the variances is (D - 1) / (D + 1) = 3/5. The measured ratio is close to it,
# though this loss is not quadratic. The training curves do not differ visibly. For an optimizer with hundreds of
# weights they cannot differ, since the two variances are then the same. So this idea does not help. Testing the next
# one takes as few lines.
#
# ## To add it to the library
#
# [CONTRIBUTING](../CONTRIBUTING.md#add-an-estimator) has the steps: a file of its own, tests on mathematics, the
# tests that all estimators must pass, and a row in `benchmarks/estimators.py`, which compares bias, variance and cost
# with the other estimators.
