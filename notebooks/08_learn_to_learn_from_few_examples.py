# %% [markdown]
# # Learn to learn from few examples
#
# In the other notebooks theta is an optimizer. Here it is the initial parameters of a network: MAML ([Finn et al.
# 2017](https://arxiv.org/abs/1703.03400)). An episode is a small learning problem: adapt to a *support set* by a few
# steps of gradient descent, and be judged on a *query set*. The meta-loss is the query set's loss after adaptation, and
# its gradient with respect to the initial parameters goes through the inner steps.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from meta_train import estimators
from meta_train import few_shot
from meta_train import fit
from meta_train import problems
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

# %% [markdown]
# ## Sinusoids
#
# An episode is a wave of unknown amplitude and phase. Ten of its points are the support set. The network is a
# perceptron of 1-40-40-1 units.

# %%
episodes, network = few_shot.sinusoids(shots=10), few_shot.perceptron(1)
grid = np.linspace(-5, 5, 101, dtype=np.float32)[:, None]
drawn = [episodes.sample(jax.random.key(number), episodes.train) for number in range(3)]

figure, panel = plt.subplots(figsize=(6, 3), dpi=75, layout="constrained")
for support, _ in drawn:
    panel.plot(support.inputs[:, 0], support.targets[:, 0], "^")
panel.set(xlabel="x", ylabel="y", title="three support sets")
plt.show()

# %% [markdown]
# ## Meta-training
#
# `initial_parameters` is a problem like any other: its inner steps are gradient descent on the support set, its loss is
# that of the query set after the last step. `full_backprop` differentiates a whole episode. `num_particles` is the
# number of episodes in an outer step.

# %%
rate, num_outer = 0.01, 20 if small else 15_000
problem = problems.initial_parameters(episodes, network, optax.sgd(rate), num_steps=1)
estimator = estimators.full_backprop(problem, num_particles=24, horizon=truncation.constant(1), rematerialize=False)
start = problems.initial_theta(episodes, network, jax.random.key(0))
result = fit(
    estimator, start, optax.adam(1e-3), num_steps=num_outer, clip_norm=None, steps_per_dispatch=100, progress=False
)
losses = np.array([row["loss"] for row in result.metrics])
print(f"loss after a step, mean of the first and last tenth: {losses[: len(losses) // 10].mean():.2f}, ", end="")
print(f"{losses[-len(losses) // 10 :].mean():.2f}")

# %% [markdown]
# ## The rival
#
# One network that is trained on all waves at once, as long and on as many points. It can only learn their mean. For no
# wave is that right, but gradient descent may begin there too.


# %%
def pretraining_loss(params, key):
    def of_episode(key):
        support, query = episodes.sample(key, episodes.train)
        return sum(episodes.loss(network.apply(params, batch.inputs), batch.targets) for batch in (support, query))

    return jnp.mean(jax.vmap(of_episode)(jax.random.split(key, 24)))


tx = optax.adam(1e-3)


@jax.jit
def pretrain(params):
    def step(carried, key):
        params, state = carried
        updates, state = tx.update(jax.grad(pretraining_loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(jax.random.key(1), num_outer))[0][0]


pretrained = pretrain(start)

# %% [markdown]
# ## Waves that neither has seen
#
# `few_shot.evaluate` draws held-out episodes and gives means with 95 % intervals. Equal keys draw equal episodes. The
# number of inner steps may be another one than in training.

# %%
judged = few_shot.sinusoids(shots=10, queries=100)
answers = {}
for steps in (0, 1, 10):
    adapt = problems.adaptation(episodes, network, optax.sgd(rate), steps)
    for name, theta in (("MAML", result.theta), ("pretrained", pretrained)):
        found = few_shot.evaluate(adapt, theta, judged, jax.random.key(2), 20 if small else 600, progress=False)
        print(f"{name:10} inner steps: {steps:2}   mean squared error: {found.loss}")
        answers[name, steps] = [adapt(theta, jax.random.key(0), support, grid) for support, _ in drawn]

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), dpi=75, sharey=True, layout="constrained")
for number, (panel, (support, _)) in enumerate(zip(panels, drawn, strict=True)):
    panel.plot(support.inputs[:, 0], support.targets[:, 0], "k^")
    for (name, steps), curves in answers.items():
        if name == "MAML" or steps == 10:
            panel.plot(
                grid, curves[number], linestyle="--" if steps == 0 else "-", label=f"{name}, inner steps: {steps}"
            )
    panel.set(xlabel="x")
panels[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# The initial parameters fit no wave (dashed). One step of gradient descent on ten points makes a wave of them, and
# further steps improve it, although training knew of one step only. The pretrained network begins near the mean of all
# waves, and the same steps lead it only a part of the way.
#
# ## Other methods
#
# - `initial_parameters(..., second_derivatives=False)` is first-order MAML, `learned_rates=True` Meta-SGD, and
#   `adapt=(network.head,)` ANIL. The inner optimizer may be any optax transformation, a learned one included.
# - `meta_train.recipes.few_shot` builds ten methods for any episodes and network, and
#   `python -m meta_train few-shot METHOD --data digits` trains them: see the [page on few-shot
#   learning](../docs/few-shot.md).
