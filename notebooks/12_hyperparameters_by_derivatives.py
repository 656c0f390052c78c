# %% [markdown]
# # Hyperparameters by derivatives
#
# In most other notebooks theta is an optimizer. Here it is the hyperparameters of a training, and the meta-loss is the
# loss on *validation* examples that the training does not see. Two cases: schedules, where the derivative goes through
# all steps of a training, and a penalty for each weight, where it is taken at the end of the training alone.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from meta_train import data
from meta_train import estimators
from meta_train import few_shot
from meta_train import fit
from meta_train import problems
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll import truncation
from meta_train.unroll.units import in_units

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

# %% [markdown]
# ## Digits
#
# 200 pictures to train on, 400 to validate, all others to test: nothing is learned or chosen by the test pictures. The
# model is linear, and `judged_by_trusted` puts its training loss and its validation loss together.

# %%
digits = data.load("digits")
x, y = (np.concatenate([getattr(digits, f"{part}_{axis}") for part in ("train", "test")]) for axis in "xy")
order = np.random.default_rng(0).permutation(len(x))
train, valid, test = np.split(order, [200, 600])
halves = problems.TrustedData(x[train], y[train], x[valid], y[valid])
network = few_shot.perceptron(10, ())


def training_loss(theta, apply, rows, inputs, targets):
    return jnp.mean(cross_entropy(apply(inputs), targets))


plain = problems.judged_by_trusted(halves, network, training_loss, name="digits", batch_size=len(x))


def error(params, rows):
    return float(np.mean(np.argmax(network.apply(params, x[rows]), axis=-1) != y[rows]))


# %% [markdown]
# ## Schedules
#
# `hyperparameters` is a training by SGD with momentum as a problem. Theta holds a learning rate, a momentum and a
# weight decay for each of five blocks of steps. `full_backprop` differentiates the validation loss after the last step.
# `forward_mode` and `reversible` give the same derivative in less memory.

# %%
num_steps = 10 if small else 100
problem = problems.hyperparameters(plain, num_steps=num_steps)
estimator = estimators.full_backprop(problem, num_particles=1, horizon=truncation.constant(num_steps))
constants = problems.hyper_theta(learning_rate=0.03, momentum=0.9, num_blocks=5)
learned = fit(
    estimator, constants, optax.adam(0.1), num_steps=3 if small else 100, steps_per_dispatch=10, progress=False
)
losses = [row["loss"] for row in learned.metrics]
print(f"validation loss of constants: {losses[0]:.3f}, after {len(losses)} outer steps: {losses[-1]:.3f}")

figure, panels = plt.subplots(1, 3, figsize=(10, 2.6), dpi=75, layout="constrained")
for panel, name in zip(panels, problems.Schedules._fields, strict=True):
    edges = np.linspace(0, num_steps, 6)
    for theta, label in ((constants, "constants"), (learned.theta, "learned")):
        panel.stairs(np.asarray(getattr(problems.schedules(theta), name)), edges, baseline=None, label=label)
    panel.set(title=name.replace("_", " "), xlabel="step", yscale="log")
panels[0].legend()
plt.show()

# %% [markdown]
# What was learned fits these validation pictures. `python -m meta_train tune FILE.py` does the same for a model of
# yours, beside a grid of constants, and judges on other seeds and other data.
#
# ## A penalty for each weight
#
# A single L2 penalty can be found by trying. This model has 650 weights, and here each gets a penalty of its own. By
# the implicit function theorem the derivative at a *minimum* of the training loss does not need the way there:
#
# $$ \frac{dL_V}{d\theta} = - \nabla_w L_V^\top \, (\nabla_w^2 L)^{-1} \, \nabla_\theta \nabla_w L $$
#
# `implicit` goes on with the inner training by 20 steps, solves the linear system, and makes one outer step. A penalty
# may grow far beyond what a learning rate of 0.1 can bear: gradient descent diverges where rate × penalty is above 2.
# `penalty_units` makes the steps proximal, for which no penalty is too large.

# %%
rate, penalized = 0.1, problems.weight_penalty(plain)
first = problems.penalty_theta(network.init(jax.random.key(0), x[:1]), 1e-3)
estimator = estimators.implicit(
    penalized,
    inner_optimizer=optax.sgd(rate, momentum=0.9),
    inner_steps=20,
    solver=estimators.linear_solvers.conjugate_gradient(max_steps=20, damping=1e-3),
    units=problems.penalty_units(rate),
)
found = fit(
    estimator,
    first,
    optax.adam(0.1),
    num_steps=5 if small else 200,
    clip_norm=None,
    steps_per_dispatch=5,
    progress=False,
)

# %% [markdown]
# ## The verdict
#
# Trainings from scratch: with the learned penalties, and with each of a row of single ones, of which the best on the
# validation pictures is the rival.


# %%
@jax.jit
def trained(theta):
    params = network.init(jax.random.key(1), x[:1])
    optimizer = in_units(optax.sgd(rate, momentum=0.9), problems.penalty_units(rate)(theta, params))

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(penalized.inner_loss)(params, theta, key, halves), state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(2), 20 if small else 2_000)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]


same = lambda coefficient: problems.penalty_theta(first, coefficient)
rivals = {coefficient: trained(same(coefficient)) for coefficient in np.geomspace(1e-4, 1e-1, 13)}
best = min(rivals, key=lambda coefficient: error(rivals[coefficient], valid))
ours = trained(found.theta)
for name, params in ((f"single penalty, {best:.1g}", rivals[best]), ("a penalty for each weight", ours)):
    print(f"{name:26} errors, %:  validation {100 * error(params, valid):4.1f}   test {100 * error(params, test):4.1f}")

# %%
figure, panels = plt.subplots(2, 10, figsize=(10, 2.4), dpi=75, layout="constrained")
weights, logs = np.asarray(ours["head"]["w"]), np.asarray(found.theta["head"]["w"])
for digit in range(10):
    panels[0, digit].imshow(weights[:, digit].reshape(8, 8), cmap="RdBu", vmin=-2, vmax=2)
    panels[1, digit].imshow(logs[:, digit].reshape(8, 8), cmap="gray")
    panels[0, digit].set_title(digit)
for panel in panels.ravel():
    panel.axis("off")
plt.show()

# %% [markdown]
# Above, the weights of each digit; below, the logarithms of their penalties, where white is large.
#
# 400 validation pictures chose 650 penalties, so their error is no estimate of anything any more: as weights fit
# training examples, hyperparameters fit validation examples. With 50 pictures to train on and 50 to validate both
# errors reach zero, with more than a tenth of the test pictures wrong. How much is gained, and by which of the solvers,
# is on the [page on hyperparameters](../docs/hyperparameters.md).
