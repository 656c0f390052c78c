# %% [markdown]
# # Ten pictures in place of a data set
#
# Which ten pictures, one of each digit, train a fresh network best? Here theta is the training data: *data set
# distillation* ([Wang et al. 2018](https://arxiv.org/abs/1811.10959)). A network is trained on the pictures, its loss
# on real ones is the meta-loss, and the gradient with respect to the pictures goes back through the training.

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
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps
num_outer, num_inner, num_networks = (2, 2, 2) if small else (1_500, 20, 10)

# %% [markdown]
# ## Where it begins
#
# With a real example of each digit, drawn at random, and a learning rate of .1. The rate is a part of theta too.

# %%
digits = data.load("digits")
network = few_shot.perceptron(10, (32,))
start = problems.Synthetic(problems.real_examples(jax.random.key(0), digits, per_class=1), jnp.log(0.1))

# %% [markdown]
# ## Meta-training
#
# The problem has two losses: of the network on the ten pictures, and on real ones. `unrolled` makes a problem of it
# whose one step is a whole training of 20 updates from fresh initial parameters. The outer rate is small: with a larger
# one the learned rate grows until trainings diverge.

# %%
bilevel = problems.synthetic_training(digits, network, batch_size=128)
problem = problems.unrolled(bilevel, lambda theta: optax.sgd(jnp.exp(theta.log_rate)), inner_steps=num_inner)
estimator = estimators.truncated_backprop(
    problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1), stagger=False
)
outer = optax.adam(optax.cosine_decay_schedule(3e-3, num_outer))
result = fit(estimator, start, outer, num_steps=num_outer, steps_per_dispatch=100, progress=False)
losses = np.array([row["loss"] for row in result.metrics])
print("loss on real pictures after a training, mean of the first and last tenth: ", end="")
print(f"{losses[: max(1, num_outer // 10)].mean():.2f}, {losses[-max(1, num_outer // 10) :].mean():.2f}")
print(f"learned rate: {np.exp(result.theta.log_rate):.2f}")

# %% [markdown]
# ## The pictures
#
# They need not look like digits. Each holds what tells its digit from the others.

# %%
figure, panels = plt.subplots(2, 10, figsize=(10, 2.3), dpi=75, layout="constrained")
for row, (name, theta) in zip(panels, (("real", start), ("learned", result.theta)), strict=True):
    for label, panel in enumerate(row):
        panel.imshow(theta.inputs[label, 0, :, :, 0], cmap="gray")
        panel.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## What they are worth
#
# Fresh networks, which meta-training never saw, are trained on each set as theta was: 20 updates. Beside them: as many
# updates with the same rate on minibatches of 128 of all real examples. The test pictures are used here only.


# %%
def train(key, loss, rate):
    """A fresh network after some steps of gradient descent on loss: its accuracy on test pictures."""

    def update(params, key):
        return jax.tree.map(lambda w, g: w - rate * g, params, jax.grad(loss)(params, key)), None

    keys = jax.random.split(key, num_inner + 1)
    params, _ = jax.lax.scan(update, network.init(keys[0], digits.train_x[:1]), keys[1:])
    return jnp.mean((jnp.argmax(network.apply(params, digits.test_x), axis=-1) == digits.test_y).astype(jnp.float32))


def of_set(key, theta):
    return train(
        key, lambda params, key: problems.synthetic_loss(network, params, theta.inputs), jnp.exp(theta.log_rate)
    )


def of_everything(key, theta):
    return train(key, lambda params, key: bilevel.outer_loss(params, theta, key, bilevel.data), jnp.exp(theta.log_rate))


keys = jax.random.split(jax.random.key(1), num_networks)
for name, accuracy, theta in (
    ("ten real pictures, rate .1", of_set, start),
    ("ten real pictures, learned rate", of_set, start._replace(log_rate=result.theta.log_rate)),
    ("ten learned pictures", of_set, result.theta),
    ("all real pictures, learned rate", of_everything, result.theta),
):
    found = 100 * np.asarray(jax.jit(jax.vmap(accuracy, in_axes=(0, None)))(keys, theta))
    print(f"{name:32} {found.mean():5.1f} ± {found.std():.1f} %")

# %% [markdown]
# ## Further
#
# - `problems.gradient_matching` is the other way: no training is unrolled, and the pictures should give a network the
#   gradient that real ones give it.
# - More pictures a class, larger data and convolutions: the [page on learned data](../docs/learned-data.md) has figures
#   for MNIST.
# - `python -m meta_train train distilled_digits` is this notebook as a recipe.
