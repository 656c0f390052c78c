# %% [markdown]
# # How PES works, and why truncation is biased
#
# To train a learned optimizer is to differentiate through training runs: which change of theta would have lowered the
# loss of the *whole* run? Whole runs are long, so estimators look at one window of a run at a time. What does a
# window miss? And how can an estimator that only sees short windows be right?
#
# This notebook uses influence balancing, a problem from the paper of PES ([Vicol et al.
# 2021](https://arxiv.org/abs/2112.13835)). It is so simple that everything about it is known.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from meta_train import Problem
from meta_train import estimators
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

# %% [markdown]
# ## The problem
#
# There is a chain of 23 cells. In each step a cell becomes half of itself plus half of its right neighbor, plus a
# push. The push is theta for the first ten cells, and minus theta for the other thirteen. The loss is half the
# squared distance of the first cell from 1.
#
# Theta pushes the first cell up at once. Later it pushes it down, when the pushes of the far cells have moved along
# the chain. The later effect is the larger one.

# %%
size, horizon, window = 23, 500, 10
matrix = jnp.asarray(0.5 * (np.eye(size) + np.eye(size, k=1)), jnp.float32)
push = jnp.where(jnp.arange(size) < 10, 1.0, -1.0)


def init(key, theta, num_steps):
    return jnp.ones(size)


def step(key, theta, state, data):
    state = matrix @ state + theta * push
    return state, 0.5 * (state[0] - 1) ** 2


problem = Problem(init, step, name="influence-balancing")

influence = np.array([np.linalg.matrix_power(np.asarray(matrix), age)[0] @ push for age in range(100)])

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), dpi=75, layout="constrained")
left.bar(range(100), influence, color=np.where(influence > 0, "C0", "C3"))
left.set(xlabel="age of a push, in steps", ylabel="effect on the first cell")
right.plot(range(1, 101), np.cumsum(influence))
right.axhline(0, color="gray", linewidth=1)
right.set(xlabel="steps that a window sees", ylabel="effect of theta in its view")
plt.show()

# %% [markdown]
# The right plot shows the effect of theta as seen in a window of so many steps. In short windows raising theta seems
# to raise the first cell. Only a window of more than forty steps shows that it lowers it.
#
# ## What truncation does
#
# With theta = 0.5, the first cell is at -3 after many steps, 4 below its target of 1. The gradient of the loss is 24:
# theta has to go *down*. A gradient through a window treats the state at its start as a constant:


# %%
def truncated_gradient(theta, start, length):
    """Of the loss at the end of a window that begins at the state `start`."""

    def loss(theta):
        state = start
        for _ in range(length):
            state, value = step(None, theta, state, None)
        return value

    return float(jax.grad(loss)(theta))


state = init(None, None, None)
for _ in range(horizon):
    state, loss = step(None, 0.5, state, None)
print(f"first cell {state[0]:.2f}, loss {loss:.2f}")
for length in (1, 10, 20, 40, 60, 100):
    print(f"window of {length:3} steps: gradient {truncated_gradient(0.5, state, length):7.2f}")

# %% [markdown]
# Windows of 10 steps give a gradient of the wrong sign, and so do windows of 40. Truncation does not only cost
# precision. It gives the wrong direction.
#
# ## How PES works
#
# Give every window its own theta: theta₁, theta₂, …, all with the same value. The gradient that we want is the sum of
# the derivatives with respect to all of them. The loss in window i depends on theta₁ … thetaᵢ.
#
# Evolution strategies estimate a derivative by trial: add noise ε, subtract it, and compare the losses L⁺ and L⁻. In
# PES every window gets its own noise εᵢ, and **the two copies of the state continue from window to window**. So the
# loss in window i contains the effect of all earlier noise. The estimate in window i is
#
# $$\hat g_i = \frac{(\varepsilon_1 + \dots + \varepsilon_i)\,(L^+_i - L^-_i)}{2 \sigma^2}$$
#
# Besides the states, the only thing to remember is the sum ξ of the noise so far. Here it is for one pair:


# %%
def pes_by_hand(key, theta, num_windows, std=0.1):
    positive = negative = jnp.ones(size)
    total_noise = 0.0  # ξ
    estimates, first_cells, noises = [], [], []
    for window_key in jax.random.split(key, num_windows):
        noise = std * jax.random.normal(window_key)
        total_noise += noise
        difference = 0.0
        for _ in range(window):
            positive, loss_positive = step(None, theta + noise, positive, None)
            negative, loss_negative = step(None, theta - noise, negative, None)
            difference += (loss_positive - loss_negative) / window
            first_cells.append((positive[0], negative[0]))
            noises.append((noise, total_noise))
        estimates.append(total_noise * difference / (2 * std**2))
    return np.array(estimates), np.array(first_cells), np.array(noises)


estimates, first_cells, noises = pes_by_hand(jax.random.key(3), 0.5, 15)
figure, (above, below) = plt.subplots(2, 1, figsize=(9, 4.5), sharex=True, dpi=75, layout="constrained")
above.plot(first_cells, label=["theta + ε", "theta - ε"])
above.set(ylabel="first cell")
below.step(range(len(noises)), noises, label=["ε, new in each window", "ξ, its sum"])
below.axhline(0, color="gray", linewidth=1)
below.set(xlabel="step", ylabel="noise")
for panel in (above, below):
    panel.legend()
plt.show()

# %% [markdown]
# The two states move apart, and their distance is the effect of several windows' noise. Truncated evolution
# strategies start both copies of each window from one state without noise, so the effect of earlier noise is lost.
#
# NRES ([Li et al. 2023](https://arxiv.org/abs/2304.12180)) is simpler still: it keeps one ε for the whole episode.
#
# ## Are they right?
#
# `meta_train.estimators` has all of them. Each sees windows of 10 steps of runs of 500 steps, with a hundred
# particles at different stages of their runs. The true gradient is that of the mean loss of a whole run.


# %%
num_steps = 450 if small else 10_050


def outer_steps(estimator):
    """A compiled function: from the outer learning rate to theta and its gradient in each outer step, from 0.5 on.

    This is what `fit` does, without its comforts.
    """

    def run(learning_rate):
        tx = optax.adam(learning_rate)

        def outer_step(carry, key):
            theta, outer_state, state = carry
            gradient, state, _ = estimator.estimate(key, theta, state, estimator.data)
            updates, outer_state = tx.update(gradient, outer_state, theta)
            return (optax.apply_updates(theta, updates), outer_state, state), (theta, gradient)

        theta = jnp.asarray(0.5)
        carry = theta, tx.init(theta), estimator.init(jax.random.key(0), theta)
        return jax.lax.scan(outer_step, carry, jax.random.split(jax.random.key(1), num_steps))[1]

    return jax.jit(run)


settings = {"num_particles": 8 if small else 100, "unroll_length": window, "horizon": truncation.constant(horizon)}
found = {
    "truncated backprop": outer_steps(estimators.truncated_backprop(problem, **settings)),
    "truncated ES": outer_steps(estimators.truncated_es(problem, **settings, std=0.1)),
    "PES": outer_steps(estimators.pes(problem, **settings, std=0.1)),
    "NRES": outer_steps(estimators.nres(problem, **settings, std=0.1)),
}


@jax.jit
def run_loss(theta):
    _, losses = jax.lax.scan(lambda state, key: step(key, theta, state, None), init(None, theta, None), length=horizon)
    return jnp.mean(losses)


true_gradient = float(jax.grad(run_loss)(0.5))
windows = horizon // window  # in a run; the first runs of the particles are shorter, so these are left out

figure, panels = plt.subplots(1, 4, figsize=(11, 2.6), dpi=75, layout="constrained")
print(f"true gradient {true_gradient:.2f}")
for panel, (name, run) in zip(panels, found.items(), strict=True):
    _, gradients = run(0.0)
    gradients = np.asarray(gradients)[windows:]
    means = gradients.reshape(-1, 4 * windows).mean(axis=1)  # successive estimates share their noise, these hardly
    error = means.std(ddof=1) / np.sqrt(len(means))
    print(f"{name:18}  mean {gradients.mean():6.2f} ± {error:.2f}, standard deviation {gradients.std():5.2f}")
    panel.hist(gradients, bins=40)
    panel.axvline(true_gradient, color="C3")
    panel.set(title=name, xlabel="estimate", yticks=[])
panels[0].set_ylabel("red: true gradient", color="C3")
plt.show()

# %% [markdown]
# The truncated estimators are precise and wrong: their sign is wrong, and more particles do not help. The others
# agree with the true gradient within their errors (standard errors over means of four runs each). PES has the largest
# spread, since ξ is a sum over many windows, and so is its variance. NRES has far less variance here.
#
# ## Where they lead

# %%
figure, panel = plt.subplots(figsize=(7, 3.6), dpi=75, layout="constrained")
print(f"at the beginning:   theta {0.5:5.2f}, loss of a run {run_loss(0.5):6.2f}")
for name, run in found.items():
    thetas = np.asarray(run(1e-2)[0])[:400]
    panel.plot(thetas, label=name)
    print(f"{name:18}  theta {thetas[-1]:5.2f}, loss of a run {run_loss(thetas[-1]):6.2f}")
grid = np.linspace(-1, 1, 401, dtype=np.float32)
best = grid[np.argmin(jax.vmap(run_loss)(grid))]
panel.axhline(best, color="k", linewidth=1, label=f"best for runs of {horizon} steps: {best:.2f}")
panel.axhline(-1 / 6, color="k", linewidth=1, linestyle=":", label="best for endless runs: -1/6")
panel.set(xlabel="outer step", ylabel="theta", ylim=(-0.5, 3))
panel.legend(fontsize=8)
plt.show()

# %% [markdown]
# With the truncated estimators theta runs away and the loss grows. With the two others theta reaches the best value
# for runs of this length and stays there. When theta is the weights of an optimizer, the error is of the same kind:
# what is good for the next few steps is not what is good for the run. The [page on
# estimators](../docs/estimators.md#bias-variance-and-cost-measured) shows how large it is there.
