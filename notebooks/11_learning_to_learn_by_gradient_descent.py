# %% [markdown]
# # Learning to learn by gradient descent by gradient descent
#
# The paper of that name ([Andrychowicz et al. 2016](https://arxiv.org/abs/1606.04474)) replaced the update rule of an
# optimizer by a recurrent network. A small LSTM looks at one coordinate of the gradient, keeps a memory of what it saw,
# and outputs the step of that coordinate. All coordinates share its weights. This notebook takes the LSTM that this
# library trained as the paper did, on MNIST, puts it beside tuned optimizers, and looks at what it does with the
# gradients it has seen.
#
# Without a folder of data sets that has MNIST (environment variable `LEARNED_OPTIM_DATA`) it runs on scikit-learn's
# digits, which the LSTM has never seen.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import data
from meta_train import tasks

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps

optimizer, theta = learned_optim.load_pretrained("coordinatewise-lstm-mnist-v1")
print(optimizer.spec["num_layers"], "layers of", optimizer.spec["hidden_size"], "units")
print(sum(leaf.size for leaf in jax.tree.leaves(theta)), "weights, shared by all coordinates")

# %% [markdown]
# ## The network that it trains
#
# A perceptron with 20 sigmoid units, on minibatches of 128 pictures. In meta-training the LSTM saw 10,000 such
# trainings of 100 steps each. The initial weights and minibatches below are new.

# %%
name = "digits" if small or not data.available("mnist") else "mnist"
task = tasks.mlp(name, data.load(name), hidden_sizes=(20,), activation=jax.nn.sigmoid)
num_parameters, examples = tasks.base.num_parameters(task), jax.tree.map(jnp.asarray, task.data)
print(f"{name}: {len(task.data.train_x):,} pictures, {num_parameters:,} parameters")


@functools.partial(jax.jit, static_argnums=(0, 3))
def train(make_optimizer, argument, keys, num_steps, examples):
    """Losses of trainings by `make_optimizer(argument)`, one for each key: [trainings, steps]."""

    def one(key):
        init_key, step_key = jax.random.split(key)
        tx = optax.with_extra_args_support(make_optimizer(argument))
        params = task.init(init_key, ())

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key, examples, ())
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(step_key, num_steps))[1]

    return jax.lax.map(one, keys)


# %% [markdown]
# ## Beside tuned optimizers
#
# Each rival has the best of several learning rates for its loss at the end of 100 steps, found on other initial weights
# and minibatches. The LSTM has nothing to tune. Then all run for twice as long.

# %%
RIVALS = {
    "SGD": optax.sgd,
    "Nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "RMSprop": optax.rmsprop,
    "Adam": optax.adam,
}
num_steps = 10 if small else 100
rates = 10.0 ** np.arange(-2.5, 1.1, 1.0 if small else 0.25)
rivals = {"Adam": optax.adam} if small else RIVALS
tuning_keys = jax.random.split(jax.random.key(1), 2 if small else 4)
keys = jax.random.split(jax.random.key(2), 2 if small else 8)

curves = {"LSTM": np.asarray(train(by_units(optimizer).transform, theta, keys, 2 * num_steps, examples))}
for rival, make in rivals.items():
    tried = [train(make, jnp.float32(rate), tuning_keys, 2 * num_steps, examples) for rate in rates]
    ends = [np.nan_to_num(losses[:, num_steps - 5 : num_steps], nan=np.inf).mean() for losses in tried]
    best = rates[int(np.argmin(ends))]
    curves[rival] = np.asarray(train(make, jnp.float32(best), keys, 2 * num_steps, examples))
    print(f"{rival:8} rate {best:.3g}")

# %%
figure, panel = plt.subplots(figsize=(6, 3.5), dpi=75, layout="constrained")
for label, losses in curves.items():
    panel.plot(losses.mean(axis=0), label=label, linewidth=2.5 if label == "LSTM" else 1)
panel.axvline(num_steps, color="gray", linestyle=":")
panel.set(xlabel="step", ylabel="loss", yscale="log", title="dotted: the length that the LSTM was trained for")
panel.legend()
plt.show()

print(f"mean loss of five steps before step {num_steps} and {2 * num_steps}, with standard errors")
for label, losses in curves.items():
    ends = [losses[:, end - 5 : end].mean(axis=1) for end in (num_steps, 2 * num_steps)]
    print(f"{label:8}", *(f"{x.mean():.3f} ± {x.std(ddof=1) / np.sqrt(len(x)):.3f}" for x in ends))

# %% [markdown]
# [The page on papers](../docs/papers.md) has the same comparison with more runs and rates, and says how far the LSTM
# carries: 40 units, two layers, and ReLU, where it fails as the paper says.
#
# ## What it does with a gradient
#
# We can ask the LSTM as one asks a function: give it a sequence of gradients of a single coordinate and look at its
# steps. First, a gradient that stays as it is. SGD would make the same step each time, and one that grows with the
# gradient. Adam's steps would not depend on the gradient's size. The LSTM is between the two: for gradients that are
# ten thousand times larger it makes steps that are 25 times larger. It is careful in its first steps, and then moves
# fast where the gradient is large and keeps its sign.


# %%
def steps_of(gradients):
    """The LSTM's steps for sequences of gradients [coordinates, steps]: an array of the same shape."""
    tx = by_units(optimizer).transform(theta)

    def step(state, grad):
        updates, state = tx.update(grad, state, jnp.zeros_like(grad))
        return state, updates

    return jax.lax.scan(step, tx.init(jnp.zeros(len(gradients))), jnp.asarray(gradients, jnp.float32).T)[1].T


sizes = np.array([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
constant = np.asarray(steps_of(np.repeat(sizes[:, None], num_steps, axis=1)))

figure, panel = plt.subplots(figsize=(6, 3), dpi=75, layout="constrained")
for size, made in zip(sizes, constant, strict=True):
    panel.plot(made, label=f"gradient {size:g}")
panel.axhline(0, color="gray", linewidth=0.5)
panel.set(xlabel="step", ylabel="step of the parameter", title="a constant gradient")
panel.legend(fontsize=8)
plt.show()
for size, made in zip(sizes, constant, strict=True):
    print(f"gradient {size:g}: first step {made[0]:+.4f}, mean of all {made.mean():+.4f}")

# %% [markdown]
# ## The same gradient after different pasts
#
# Now the memory. Each line is the LSTM's next step as a function of the gradient, after ten gradients that were all
# positive, all negative, or took turns. An optimizer without memory would draw one line three times. With momentum the
# lines would be parallel, shifted by the past. The LSTM does something else: the past decides how much a new gradient
# counts. Where signs took turns, it hardly moves. And its rule is not symmetric, for nothing told it that opposite
# gradients should give opposite steps: after ten negative gradients its step is about +.1, whatever comes; after ten
# positive ones it goes down to -.4.

# %%
past, count = 10, 9 if small else 61
now = np.linspace(-0.03, 0.03, count)
signs = {
    "positive": np.ones(past),
    "negative": -np.ones(past),
    "taking turns": (-1.0) ** np.arange(past),
}
figure, panel = plt.subplots(figsize=(6, 3.5), dpi=75, layout="constrained")
for label, history in signs.items():
    sequences = np.concatenate([np.tile(0.01 * history, (count, 1)), now[:, None]], axis=1)
    after = np.asarray(steps_of(sequences))[:, -1]
    panel.plot(now, after, label=f"ten gradients of ±.01, {label}")
    print(f"{label:12}: step {after[0]:+.4f} at gradient {now[0]:+.2f}, {after[-1]:+.4f} at {now[-1]:+.2f}")
panel.axhline(0, color="gray", linewidth=0.5)
panel.set(xlabel="gradient now", ylabel="step of the parameter")
panel.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## How its steps depend on each gradient of the past
#
# The derivative of a step with respect to the gradients before it says how long the memory is. SGD with momentum has
# weights that fall as a geometric series. The LSTM's are measured here along real sequences: the gradients of some
# coordinates of the network in a training by the LSTM itself. Each is scaled by the gradient's size, since the LSTM
# sees logarithms. On MNIST gradients of 25 steps ago still count a quarter of the last one.


# %%
@jax.jit
def gradients_of_a_training(key, examples):
    """Gradients of all coordinates in a training by the LSTM, [steps, coordinates]."""
    tx = by_units(optimizer).transform(theta)
    params = task.init(key, ())

    def step(carry, key):
        params, state = carry
        grads = jax.grad(task.loss)(params, key, examples, ())
        updates, state = tx.update(grads, state, params)
        seen = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(grads)])
        return (optax.apply_updates(params, updates), state), seen

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, num_steps))[1]


seen = np.asarray(gradients_of_a_training(jax.random.key(3), examples)).T
moving = np.flatnonzero(np.abs(seen).min(axis=1) > 1e-4)  # pixels that are always black have no gradient
chosen = seen[np.random.default_rng(0).choice(moving, min(200, len(moving)), replace=False)]
slopes = np.asarray(jax.jit(jax.grad(lambda gradients: steps_of(gradients)[:, -1].sum()))(chosen))
memory = np.mean(slopes * np.abs(chosen), axis=0)[::-1]

figure, panel = plt.subplots(figsize=(6, 3), dpi=75, layout="constrained")
lag = np.arange(min(30, num_steps))
panel.bar(lag, memory[: len(lag)], label="LSTM")
momentum = memory[0] * 0.9**lag
panel.plot(lag, momentum, color="C1", label="momentum .9, same weight at lag 0")
panel.axhline(0, color="gray", linewidth=0.5)
panel.set(xlabel="steps ago", ylabel="slope times size of the gradient", title="memory of the step at the end")
panel.legend(fontsize=8)
plt.show()
print(f"share of the last gradient: {abs(memory[0]) / np.abs(memory).sum():.2f}")

# %% [markdown]
# ## Where it comes from
#
# `python -m meta_train train coordinatewise_lstm_mnist_v1 --data-dir FOLDER` trains it again, in an hour and a half on
# one core. [Its card](../pretrained/coordinatewise-lstm-mnist-v1/card.md) has the figures. The recipe
# `coordinatewise_lstm_cifar_v1` does the same for a convolutional net, with one LSTM for kernels and one for everything
# else. [Why truncation is biased](05_why_truncation_is_biased.ipynb) explains what windows of 20 steps cannot see.
