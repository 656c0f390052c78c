# %% [markdown]
# # Self-training: optimizers that train themselves
#
# A learned optimizer is trained by an outer optimizer. That one can be learned too, or it can be the very optimizer
# that is being trained ([Metz et al. 2020](https://arxiv.org/abs/2009.11243),
# [2021](https://arxiv.org/abs/2101.07367)). This notebook shows self-training in the smallest case: theta is a single
# number.

# %%
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.outer import safeguards
from meta_train.outer import self_training
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

# %% [markdown]
# ## The case
#
# The optimizer is gradient descent, and theta is its log learning rate λ. It trains random quadratics of ten numbers
# for 20 inner steps. The meta-loss is the mean over these steps of a logarithmic loss: when it falls by 0.7, the loss
# is halved. The estimator is exact: forward-mode derivatives of whole runs, eight of them in each outer step.
#
# With one number a grid search is possible, so the right answer is known.

# %%
num_inner = 20
optimizer = learned_optim.learned_sgd()
problem = problems.optimizer_weights(optimizer, tasks.get("quadratic"))
estimator = estimators.forward_mode(problem, num_particles=8, horizon=truncation.constant(num_inner))


def theta_of(log_rate):
    return {"log_learning_rate": jnp.asarray(log_rate, jnp.float32)}


@jax.jit
@jax.vmap
def meta_loss(log_rate):
    """Mean of many runs, the same for all rates."""

    def run(key):
        theta, (init_key, step_key) = theta_of(log_rate), jax.random.split(key)
        step = lambda state, key: problem.step(key, theta, state, problem.data)
        state = problem.init(init_key, theta, num_inner)
        return jnp.mean(jax.lax.scan(step, state, jax.random.split(step_key, num_inner))[1])

    return jnp.mean(jax.vmap(run)(jax.random.split(jax.random.key(5), 100 if small else 2000)))


grid = jnp.linspace(-8, 0, 161)
losses = meta_loss(grid)
optimum = float(grid[jnp.argmin(losses)])
print(f"The best log learning rate is {optimum:.2f}, with a meta-loss of {losses.min():.2f}.")

figure, panel = plt.subplots(figsize=(6, 3), dpi=75, layout="constrained")
panel.plot(grid, losses)
panel.axvline(optimum, color="gray", linewidth=1)
panel.set(xlabel="log learning rate λ", ylabel="meta-loss")
plt.show()

# %% [markdown]
# ## Live: theta moves itself
#
# `self_training.live(optimizer)` is an outer optimizer whose rule is the current theta: λ ← λ - exp(λ) · gradient. At
# λ = -6 its steps are a four-hundredth of the gradient.
#
# To follow theta, the chain gets a link that reports it. The metrics of `fit` contain the `report` of every outer
# state that has such a method.


# %%
class Position(NamedTuple):
    log_rate: jax.Array

    def report(self):
        return {"log_rate": self.log_rate}


def position(theta):
    return Position(jnp.copy(theta["log_learning_rate"]))


def look(updates, state, theta=None, **extra):
    return updates, position(theta)


looking = optax.GradientTransformationExtraArgs(position, look)


def follow(outer_optimizer, start, num_steps, estimator=estimator, **options):
    """Theta from outer step to outer step, and the other metrics."""
    outer_optimizer = optax.chain(looking, outer_optimizer)
    options = {"num_steps": 20 if small else num_steps, "steps_per_dispatch": 100, "progress": False} | options
    metrics = fit(estimator, theta_of(start), outer_optimizer, **options).metrics
    return np.array([row["outer/log_rate"] for row in metrics]), metrics


live, metrics = follow(self_training.live(optimizer), start=-6.0, num_steps=2500)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), dpi=75, layout="constrained")
left.plot(live)
left.axhline(optimum, color="gray", linewidth=1)
left.set(xlabel="outer step", ylabel="log learning rate λ", title="gray: what the grid search found")
right.plot(np.convolve([row["loss"] for row in metrics], np.ones(20) / 20, "valid"), linewidth=1)
right.set(xlabel="outer step", ylabel="meta-loss, mean of 20 steps")
plt.show()

for level in (-5.0, -4.0, -3.0, -2.0):
    print(f"λ above {level} for the first time: outer step {np.argmax(live > level) or 'none'}")
end = live[-500:]
print(f"λ in the last 500 outer steps: {end.min():.2f} to {end.max():.2f}, mean {end.mean():.2f}")

# %% [markdown]
# For more than a thousand outer steps λ hardly moves, since its own steps are short. But each step makes the next one
# longer. Then λ accelerates, and within some dozens of steps it reaches the result of the grid search. This is the
# positive feedback of self-training. It ends by itself: at the optimum the gradient is zero except for noise. Since
# the learning rate is about 0.2 there, λ fluctuates around the optimum.
#
# ## Frozen: a trained one trains another
#
# `self_training.frozen` uses a learned optimizer with fixed weights as the outer optimizer, such as the released
# default. Its steps suit ordinary training and can be too long for meta-training, so they are multiplied by 0.3.

# %%
default = learned_optim.load_pretrained("default")
frozen, _ = follow(self_training.frozen(*default, num_steps=600, step_scale=0.3), start=-6.0, num_steps=600)

figure, panel = plt.subplots(figsize=(7, 3), dpi=75, layout="constrained")
panel.plot(live[:1500], label="live")
panel.plot(frozen, label="frozen: the released default")
panel.axhline(optimum, color="gray", linewidth=1)
panel.set(xlabel="outer step", ylabel="log learning rate λ")
panel.legend()
plt.show()
print(f"frozen: λ above -2 at outer step {np.argmax(frozen > -2) or 'none'}, {frozen[-1]:.2f} at the end")

# %% [markdown]
# With an optimizer that already works there is no slow beginning, though the default was made without any meta-loss.
# It was told `num_steps=600`, so its steps shrink towards the end and λ comes to rest. With full steps it arrives in
# 35 outer steps instead of 81, overshoots to -1.2, and comes to rest at the same λ. That is not certain in advance:
# `prodigy-muon-schedule-v1`, an earlier default, overshoots with full steps to λ = 9, where all runs diverge and no
# gradient leads back.
#
# ## A population
#
# Without a trained optimizer, several starting points may help. Four members begin at λ = -6, -5, -4 and -3 and train
# themselves. Every twenty outer steps the worst member is replaced by a copy of the best, with a little noise, and
# may draw another member as its trainer.

# %%
strategy = self_training.population(
    optimizer,
    num_members=4,
    interval=20,
    share=0.25,
    start=lambda key, index, theta: jax.tree.map(lambda x: index.astype(x.dtype) - 6.0, theta),
    safeguard=lambda tx: optax.chain(looking, optax.clip_by_global_norm(1.0), tx),
)
result = fit(
    estimator,
    theta_of(0.0),
    strategy,
    num_steps=20 if small else 300,
    steps_per_dispatch=100,
    progress=False,
)
paths = np.array([row["outer/log_rate"] for row in result.metrics])
figure, panel = plt.subplots(figsize=(7, 3), dpi=75, layout="constrained")
panel.plot(paths)
panel.axhline(optimum, color="gray", linewidth=1)
panel.set(xlabel="outer step", ylabel="log learning rate λ")
plt.show()
print("members at the end:", np.round(paths[-1], 2))
print(f"answer: λ = {result.theta['log_learning_rate']:.2f}")

# %% [markdown]
# The vertical jumps are replacements. The member that began nearest to the optimum arrives first, and the others
# become its copies before they arrive by themselves. An outer step costs four times as much as with a single theta.
# Note the rule of selection: the members that are good *now* survive. A slow member that would be best in the end is
# lost.
#
# ## When it fails, and what helps
#
# So far the gradient was clipped to a norm of 1. In the next cell it is not, and only four runs estimate it in each
# outer step. Then one bad draw is enough. If the rate is a little too large, some quadratic diverges and its gradient
# is huge. Theta makes a huge step, with its own large rate, to a rate so small that the way back takes hundreds of
# steps.
#
# `safeguards.safeguarded` wraps an outer optimizer. `max_step` bounds the step. `max_rise` lets the accident happen
# and then undoes it: it remembers the theta with the lowest meta-loss, averaged over the last `window` outer steps,
# and restores it when the average has risen by more than `max_rise`. The metrics count what it did.

# %%
shaky = estimators.forward_mode(problem, num_particles=4, horizon=truncation.constant(num_inner))
live_one = self_training.live(optimizer)
outer_optimizers = {
    "unguarded": live_one,
    "max_rise": safeguards.safeguarded(live_one, max_rise=1.0, window=20),
    "max_step": safeguards.safeguarded(live_one, max_step=0.5),
}
figure, panels = plt.subplots(4, 1, figsize=(9, 6.5), sharex=True, dpi=75, layout="constrained")
for panel, (name, outer_optimizer) in zip(panels, outer_optimizers.items(), strict=False):
    path, metrics = follow(outer_optimizer, -2.0, 1500, shaky, clip_norm=None)
    panel.plot(path)
    panel.axhline(optimum, color="gray", linewidth=1)
    panel.set(ylabel=f"λ, {name}", ylim=(-9, 0))
    counts = {key: metrics[-1][key] for key in ("outer/rollbacks", "outer/shortened") if key in metrics[-1]}
    print(f"{name:9}  λ below -4 in {np.mean(path < -4):4.0%} of the outer steps, at the end {path[-1]:.2f}", counts)
    if name == "max_rise":
        panels[3].plot([row["outer/rollbacks"] for row in metrics])
        panels[3].set(xlabel="outer step", ylabel="rollbacks, max_rise")
plt.show()

# %% [markdown]
# Without safeguards theta is thrown back again and again. It recovers quickly from short falls, and in hundreds of
# outer steps from long ones. With `max_rise` the long falls soon end in a rollback. The short ones do not raise the
# average enough, and remain. With `max_step` there are no falls. So bound the steps, and keep the rollback for cases
# that the bound does not catch. (The average must be less noisy than `max_rise`. Otherwise it triggers rollbacks for
# no reason.)
#
# Here theta was one number, and a grid search would have been cheaper. The [page on
# self-training](../docs/self-training.md) is about larger cases.
