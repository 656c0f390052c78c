# %% [markdown]
# # Look inside a learned optimizer
#
# A learned optimizer is a function with some hundred weights. What has meta-training made of them? This notebook
# looks at two released optimizers:
#
# - `adam-residual-schedule-v1`, an earlier default. Its rule acts on each coordinate separately, so it can be drawn.
#   Today's default, `adaptive-muon-scanned-v1`, acts on whole matrices and cannot. Nor was it meta-trained.
# - `mlp-digits-v1`, a small network that was meta-trained on three small tasks and is good at little else.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
from meta_train import tasks

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

residual, residual_theta = learned_optim.load_pretrained("adam-residual-schedule-v1")
mlp, mlp_theta = learned_optim.load_pretrained("mlp-digits-v1")

for name, theta in (("adam-residual-schedule-v1", residual_theta), ("mlp-digits-v1", mlp_theta)):
    print(f"{name}, {sum(leaf.size for leaf in jax.tree.leaves(theta))} weights")
    for path, leaf in jax.tree.leaves_with_path(theta):
        print(f"   {jax.tree_util.keystr(path):35} {leaf.shape}")

# %% [markdown]
# ## The direction: nine weights
#
# `adam-residual-schedule-v1` moves a coordinate by `- step size · size of the tensor · direction`. The direction is a
# weighted sum of nine features. Before meta-training the weight of Adam's direction was 1 and the others were 0.

# %%
features = (
    "gradient / rms",
    "parameter / rms",
    "momentum .9 / rms",
    "momentum .99 / rms",
    "Adam, momentum .9",
    "Adam, momentum .99",
    "RMSprop",
    "Adafactor",
    "1 / √v",
)
weights = np.asarray(residual_theta["direction"]["skip"])
figure, panel = plt.subplots(figsize=(6, 2.8), dpi=75, layout="constrained")
panel.barh(features, weights)
panel.axvline(0, color="k", linewidth=1)
panel.invert_yaxis()
panel.set(xlabel="weight")
plt.show()

# %% [markdown]
# Adam's direction is still there, and has the largest weight. The current gradient, divided by its root mean square
# over the tensor or by √v, now has more than a third of the total weight, so the rule reacts faster than Adam.
# Adafactor's direction and 1 / √v have hardly any weight.
#
# ## The update as a function of gradient and momentum
#
# To see the rule itself, we compute the update of one tensor whose coordinates have all combinations of a gradient g
# and a momentum m. The past of each coordinate is as if every gradient had been m on average, with mean square 1: all
# averages of gradients are m, and those of squares are 1. It is update 500 of 1,000. Only the shape matters here, so
# each surface is scaled to a root mean square of 1.

# %%
gradients, momenta = jnp.meshgrid(jnp.linspace(-3, 3, 61), jnp.linspace(-1, 1, 61))


def surface(optimizer, theta, averages):
    tx = optimizer.transform(theta, num_steps=1000)
    params = jnp.zeros_like(gradients)
    state = tx.init(params)
    slots = jax.tree.unflatten(jax.tree.structure(state.slots), averages)
    state = state._replace(step=jnp.asarray(500), slots=slots)
    updates, _ = tx.update(gradients, state, params)
    return -updates / jnp.sqrt(jnp.mean(updates**2))


adam = (0.9 * momenta + 0.1 * gradients) / jnp.sqrt(0.999 + 0.001 * gradients**2)
surfaces = {
    "Adam": adam / jnp.sqrt(jnp.mean(adam**2)),
    "adam-residual-schedule-v1": surface(residual, residual_theta, [momenta, momenta, jnp.ones_like(momenta)]),
    "mlp-digits-v1": surface(mlp, mlp_theta, [momenta] * 6),
}
figure, panels = plt.subplots(2, 3, figsize=(10, 5.5), dpi=75, layout="constrained")
for (upper, lower), (name, values) in zip(panels.T, surfaces.items(), strict=True):
    picture = upper.contourf(gradients, momenta, values, np.linspace(-3, 3, 13), cmap="RdBu", extend="both")
    upper.contour(gradients, momenta, values, levels=[0], colors="k")
    upper.set(title=name, xlabel="gradient")
    for row in (10, 30, 50):
        lower.plot(gradients[row], values[row], label=f"momentum {momenta[row, 0]:.1f}")
    lower.set(xlabel="gradient", ylim=(-3.5, 3.5))
    lower.grid(alpha=0.3)
panels[0, 0].set_ylabel("momentum")
panels[1, 0].set_ylabel("- update, scaled")
panels[1, 0].legend(fontsize=8)
figure.colorbar(picture, ax=panels[0], label="- update, scaled")
plt.show()

# %% [markdown]
# On the black line the update is zero. Adam hardly responds to the current gradient: against a momentum of 1/3 only a
# gradient of -3 stops it. `adam-residual-schedule-v1` turns much sooner. Both surfaces are planes, or nearly so,
# since neither has a network per coordinate. `mlp-digits-v1` has one, and its surface is curved: where gradient and
# momentum agree, a larger gradient adds less.
#
# ## The learned schedule
#
# Another 187 weights of `adam-residual-schedule-v1` set the step size of each tensor, from the progress of training
# and from statistics of its gradients. We train the MLP on digits and measure how far each step moves the first
# layer's weights, relative to their size.

# %%
task = tasks.get("digits-mlp")
data = jax.tree.map(jnp.asarray, task.data)


def train(tx, key, num_steps):
    """Losses, and relative steps of the first layer's weights."""
    init_key, step_key = jax.random.split(key)
    params = task.init(init_key, ())

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(task.loss)(params, key, data, ())
        updates, state = tx.update(grads, state, params, value=loss)
        first = max(jax.tree.leaves(params), key=lambda leaf: leaf.size)
        moved = max(jax.tree.leaves(updates), key=lambda leaf: leaf.size)
        relative = jnp.linalg.norm(moved) / jnp.linalg.norm(first)
        return (optax.apply_updates(params, updates), state), (loss, relative)

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(step_key, num_steps))[1]


longest = 100 if small else 1000


@jax.jit
def relative_steps(key, told):
    """Losses and relative steps of the longest training. `told` is the optimizer's `num_steps`; 0 stands for none."""
    return train(residual.transform(residual_theta, num_steps=told), key, longest)


def smooth(values):
    return np.convolve(values, np.ones(20) / 20, "valid")


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), dpi=75, layout="constrained")
for told in (longest // 5, longest // 2, longest, 0):
    losses, relative = relative_steps(jax.random.key(0), told)
    label = f"num_steps={told}" if told else "num_steps not known"
    left.plot(smooth(relative[: told or None]), label=label)
    right.plot(smooth(losses[: told or None]))
    for at in (0.1, 0.5, 0.9):
        around = int(at * (told or longest))
        mean = relative[max(around - 10, 0) : around + 10].mean()
        print(f"{label:20} after {around:3} steps: relative step {mean:.4f}")
left.set(xlabel="step", ylabel="relative step of the first layer, mean of 20", yscale="log")
left.legend(fontsize=8)
right.set(xlabel="step", ylabel="training loss, mean of 20", yscale="log")
for panel in (left, right):
    panel.grid(alpha=0.3)
plt.show()

# %% [markdown]
# When the optimizer knows the number of steps, they end near zero. The linear decay at the end was built in. The
# first steps, and how fast they shrink before, are learned: they fall by about a factor of ten within the first
# hundred or two, later if the training is to be longer. When the optimizer does not know the number of steps, they
# shrink slowly and never end, and the loss stays higher.
#
# ## What it can do without
#
# What does a feature contribute? We set its weights to zero and train the digits MLP again, for 300 steps with five
# seeds. This test is rough: the other weights were meta-trained together with the feature, and they are not trained
# again.

# %%
num_steps, num_seeds = (30, 2) if small else (300, 5)


def without(theta, rows):
    """Theta with rows of its weight matrices or vectors set to zero: `rows` maps a path to an index."""
    leaves = jax.tree.leaves_with_path(theta)
    zero = lambda path, leaf: leaf.at[rows[path]].set(0.0) if path in rows else leaf
    changed = [zero(jax.tree_util.keystr(path), jnp.asarray(leaf)) for path, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(theta), changed)


def outcomes(optimizer, thetas):
    """For each theta and seed: log10 of the training loss in the last tenth, and the mean log2 of the relative step."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas)
    keys = jax.random.split(jax.random.key(1), num_seeds)

    @jax.jit
    def run(theta):
        tx = optimizer.transform(theta, num_steps=300)
        losses, relative = jax.vmap(lambda key: train(tx, key, num_steps))(keys)
        return jnp.log10(losses[:, -num_steps // 10 :].mean(axis=1)), jnp.log2(relative).mean(axis=1)

    return jax.tree.map(np.asarray, jax.lax.map(run, stacked))


def show(panel, title, names, logs):
    """Bars from the loss of the unchanged optimizer, which comes first, to the others."""
    base, errors = logs[0].mean(), (logs[1:] - logs[0]).std(axis=1, ddof=1) / np.sqrt(num_seeds)
    panel.barh(names[1:], logs[1:].mean(axis=1) - base, xerr=errors)
    panel.axvline(0, color="k", linewidth=1)
    panel.invert_yaxis()
    panel.set(title=f"{title}: loss {10**base:.1e}", xlabel="change of log10(loss)")


tensor_features = (
    "progress",
    "first steps",
    "length of training",
    "vector or matrix",
    "noise of momentum .9",
    "noise of momentum .99",
    "gradient and momentum agree",
    "end of training",
    "num_steps known",
)
ablations = {"nothing": {}}
ablations |= {name: {"['direction']['skip']": i} for i, name in enumerate(features)}
ablations |= {f"step: {name}": {"['step']['skip']": i, "['step']['w']": i} for i, name in enumerate(tensor_features)}
thetas = {name: without(residual_theta, rows) for name, rows in ablations.items()}
for factor in (0.5, 2.0, 4.0):  # for comparison: nothing is left out, but all steps are longer or shorter
    step = residual_theta["step"] | {"base": residual_theta["step"]["base"] + np.float32(np.log(factor))}
    thetas[f"all steps × {factor}"] = residual_theta | {"step": step}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), dpi=75, layout="constrained")
losses, steps = outcomes(residual, thetas.values())
show(left, "adam-residual-schedule-v1", list(thetas), losses)

inputs = ["gradient", "parameter", *(f"momentum {decay}" for decay in (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)), "time"]
first_layer = next(jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(mlp_theta) if len(leaf) == 19)
ablations = {"nothing": {}}
ablations |= {name: {first_layer: slice(i, i + 1 if i < 8 else None)} for i, name in enumerate(inputs)}
thetas = [without(mlp_theta, rows) for rows in ablations.values()]
show(right, "mlp-digits-v1", list(ablations), outcomes(mlp, thetas)[0])
plt.show()

# %% [markdown]
# Do the features matter through the length of the steps, or otherwise? In the next plot each bar on the left is a
# dot.

# %%
shorter, loss = (steps - steps[0]).mean(axis=1), (losses - losses[0]).mean(axis=1)
scaled = [-3, 0, -2, -1]  # steps × ½, 1, 2 and 4
figure, panel = plt.subplots(figsize=(6, 3.5), dpi=75, layout="constrained")
panel.plot(shorter[scaled], loss[scaled], "k.-", label="all steps × ½, 1, 2, 4")
panel.plot(shorter[1:10], loss[1:10], "o", label="without a direction")
panel.plot(shorter[10:-3], loss[10:-3], "o", label="without a feature of the step")
panel.set(xlabel="change of log2(relative step)", ylabel="change of log10(loss)")
panel.grid(alpha=0.3)
panel.legend(fontsize=8)
plt.show()

# %% [markdown]
# Most features of the step act through its *length*: their dots lie near the black line. Those of the two features
# that measure noise are farther off. On this task longer steps are better: doubled, they give a far lower loss;
# quadrupled or halved, a loss several times as high. The features that seem dispensable are those that measure noise
# and the agreement of gradient and momentum. They make the steps smaller. The optimizer was meta-trained on thirteen
# tasks, some of which need short steps, and here its caution costs.
#
# The directions are different. Without one of the two plain momenta the steps are no shorter and the loss is several
# times as high, so their direction matters. Without the plain gradient the steps are much shorter, and the loss
# hardly changes.
#
# In `mlp-digits-v1` the five seeds differ more. Its most important input is the time, followed by the parameter's own
# value. Most of the other bars are hardly larger than their errors.
#
# An ablation on one task says something about that task only. To find out what a feature is good for, train without
# it and judge on a suite: `python -m meta_train evaluate FILE --suite validation --embedded`.
