# %% [markdown]
# # Use a pretrained optimizer in your own training loop
#
# `learned_optimizer(num_steps=…)` is an optax transformation like `optax.adam(1e-3)`, and takes its place. It has no
# learning rate. This notebook trains one small network with it in three libraries: Haiku, Flax NNX and Equinox. Each
# training loop is the usual one of its library.

# %%
import os

import equinox as eqx
from flax import nnx
import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from sklearn.datasets import load_digits

import learned_optim
from learned_optim import learned_optimizer

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps
num_steps = 100 if small else 500

# %% [markdown]
# The data are handwritten digits of 8×8 pixels: 1,437 for training and 360 held out. A minibatch has 128 digits.

# %%
digits = load_digits()
order = jax.random.permutation(jax.random.key(0), len(digits.target))
x, y = jnp.asarray(digits.data, jnp.float32)[order] / 16, jnp.asarray(digits.target)[order]
train_x, train_y, test_x, test_y = x[:1437], y[:1437], x[1437:], y[1437:]
minibatches = jax.random.randint(jax.random.key(1), (num_steps, 128), 0, len(train_x))


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits):
    return float(jnp.mean(jnp.argmax(logits, axis=-1) == test_y))


# %% [markdown]
# ## Haiku
#
# There are two differences from a loop with `optax.sgd`. `tx.update` needs the parameters, as with `optax.adamw`. And
# the updates are final: no learning rate, schedule or sign is applied to them.


# %%
def train_with_haiku(tx):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([64, 10])(x)))
    params = network.init(jax.random.key(2), train_x)
    state = tx.init(params)

    @jax.jit
    def train_step(params, state, rows):
        loss_fn = lambda params: cross_entropy(network.apply(params, train_x[rows]), train_y[rows])
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for rows in minibatches:
        params, state, loss = train_step(params, state, rows)
        losses.append(loss)
    return jnp.stack(losses), accuracy(network.apply(params, test_x))


# %% [markdown]
# ## Flax NNX
#
# `nnx.Optimizer` takes the transformation like any other.


# %%
class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(x)))


def train_with_flax(tx):
    model = Network(nnx.Rngs(2))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, rows):
        loss_fn = lambda model: cross_entropy(model(train_x[rows]), train_y[rows])
        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    losses = [train_step(model, optimizer, rows) for rows in minibatches]
    return jnp.stack(losses), accuracy(model(test_x))


# %% [markdown]
# ## Equinox
#
# The parameters are the arrays of the model. `eqx.filter` puts None in place of everything else.


# %%
def train_with_equinox(tx):
    model = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(2))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def train_step(model, state, rows):
        loss_fn = lambda model: cross_entropy(jax.vmap(model)(train_x[rows]), train_y[rows])
        loss, grads = eqx.filter_value_and_grad(loss_fn)(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for rows in minibatches:
        model, state, loss = train_step(model, state, rows)
        losses.append(loss)
    return jnp.stack(losses), accuracy(jax.vmap(model)(test_x))


# %% [markdown]
# ## All three, beside Adam
#
# Gradient clipping is good practice with any optimizer, and goes before this one too. `num_steps` is the number of
# steps that you plan to make. The optimizer then takes smaller steps towards the end.

# %%
learned = optax.chain(optax.clip_by_global_norm(1.0), learned_optimizer(num_steps=num_steps))
optimizers = {"learned_optimizer": learned}
if not small:
    optimizers |= {"Adam 1e-3": optax.adam(1e-3), "Adam 1e-2": optax.adam(1e-2)}
libraries = {"Haiku": train_with_haiku, "Flax NNX": train_with_flax, "Equinox": train_with_equinox}

figure, panels = plt.subplots(1, 3, figsize=(11, 3), sharey=True, dpi=75, layout="constrained")
print("library   optimizer           loss, last tenth   held-out accuracy")
for panel, (library, train) in zip(panels, libraries.items(), strict=True):
    for name, tx in optimizers.items():
        losses, held_out = train(tx)
        print(f"{library:8}  {name:18}  {losses[-num_steps // 10 :].mean():16.1e}   {held_out:.3f}")
        panel.plot(losses, label=name, linewidth=1)
    panel.set(title=library, xlabel="step", yscale="log")
    panel.grid(alpha=0.3)
panels[0].set_ylabel("training loss")
panels[0].legend()
plt.show()

# %% [markdown]
# In all three libraries the learned optimizer has the lowest training loss, with nothing tuned. Adam at 1e-2 ends far
# below Adam at 1e-3, and its loss is still more than a hundred times that of the learned optimizer. The held-out
# accuracies are between 0.96 and 0.99: a lower training loss need not mean better predictions.
#
# ## Options
#
# All of these are optional. Without `num_steps` the steps shrink slowly, by a rule that needs no end. Here the
# training loss is no higher for it; on most tasks it is. So give the number of steps if you know it.

# %%
variants = {
    "num_steps given": learned_optimizer(num_steps=num_steps),
    "num_steps not known": learned_optimizer(),
    "half the step": learned_optimizer(num_steps=num_steps, step_scale=0.5),
    "weight decay 1e-4": learned_optimizer(num_steps=num_steps, weight_decay=1e-4),
    "momenta in bfloat16": learned_optimizer(num_steps=num_steps, moment_dtype=jnp.bfloat16),
}
print("option                loss, last tenth   held-out accuracy")
for name, tx in list(variants.items())[: 1 if small else None]:
    losses, held_out = train_with_haiku(optax.chain(optax.clip_by_global_norm(1.0), tx))
    print(f"{name:20}  {losses[-num_steps // 10 :].mean():16.1e}   {held_out:.3f}")

# %% [markdown]
# ## The released optimizers
#
# `learned_optim.card(name)` returns the card of an optimizer. It says how the optimizer was made, on which tasks, for
# how many steps, and where it loses. The default is `adaptive-muon-scanned-v1`. It was not meta-trained: its weights
# are constants that were chosen by scans of whole trainings, of the lengths in its row "trained horizon". All others
# were meta-trained.

# %%
for name in learned_optim.list_pretrained():
    rows = [line for line in learned_optim.card(name).splitlines() if line.startswith(("| kind", "| trained horizon"))]
    print(name, *rows, sep="\n   ")
