# %% [markdown]
# # Which labels to trust
#
# Of the labels that a classifier trains on, 40 % are wrong, and nobody knows which. Thirty examples are known to be
# right. Too few to train on; but enough to learn how much an example should count, given its loss. Here theta is that
# function, a small network: Meta-Weight-Net ([Shu et al. 2019](https://arxiv.org/abs/1902.07379)).

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
from meta_train import problems

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps
num_steps = 3 if small else 1_000

# %% [markdown]
# ## The data
#
# `trusted_data` takes the thirty away and spoils labels of the others. We also need to know which, to draw them below;
# training is not told.

# %%
digits = data.load("digits")
noisy = problems.trusted_data(digits, num_trusted=30, noise=0.4)
wrong = noisy.train_y != problems.trusted_data(digits, num_trusted=30).train_y
network, weigher = few_shot.perceptron(10, (32,)), few_shot.perceptron(1, (100,))
print(
    f"{len(wrong)} examples to train on, {wrong.sum()} of them with a wrong label; {len(noisy.trusted_x)} trusted ones"
)

# %% [markdown]
# ## Classifier and weights learn together
#
# Each outer step makes an update of the classifier, on losses that theta weighs, and then one of theta, so that the
# classifier does well on the trusted examples. EvoGrad ([Bohdal et al. 2021](https://arxiv.org/abs/2106.10575)) finds
# the gradient without second derivatives. `fit` would return theta alone; here we want the classifier, which is in the
# estimator's state, and write the loop by hand.

# %%
bilevel = problems.meta_weight_net(noisy, network, weigher, batch_size=100)
inner, outer = optax.sgd(0.1, momentum=0.9), optax.adam(1e-3)
estimator = estimators.evograd(bilevel, inner_optimizer=inner, inner_steps=1, noise=jax.random.rademacher)


@jax.jit
def learn(theta, data):
    """Weights and the classifier that learned beside them."""

    def outer_step(carried, key):
        theta, opt_state, state = carried
        gradient, state, info = estimator.estimate(key, theta, state, data)
        updates, opt_state = outer.update(gradient, opt_state)
        return (optax.apply_updates(theta, updates), opt_state, state), info.loss

    first = (theta, outer.init(theta), estimator.init(jax.random.key(1), theta))
    (theta, _, state), losses = jax.lax.scan(outer_step, first, jax.random.split(jax.random.key(2), num_steps))
    return theta, jax.tree.map(lambda x: x[0], state.inner.params), losses  # of the first and only particle


drawn = weigher.init(jax.random.key(0), jnp.zeros((1, 1)))
start = {**drawn, weigher.head: jax.tree.map(jnp.zeros_like, drawn[weigher.head])}  # every example weighs the same
learned, classifier, losses = learn(start, estimator.data)
print(f"loss on the trusted examples, mean of the last {num_steps // 10 + 1} steps: ", end="")
print(f"{losses[-(num_steps // 10 + 1) :].mean():.2f}")

# %% [markdown]
# ## The weight of an example by its loss
#
# A large loss means a label that the classifier does not believe.

# %%
losses = jnp.linspace(0.0, 8.0, 81)
figure, panel = plt.subplots(figsize=(5, 3), dpi=75, layout="constrained")
for name, theta in (("before", start), ("learned", learned)):
    panel.plot(losses, problems.loss_weights(weigher, theta, losses), "--" if name == "before" else "-", label=name)
panel.set(xlabel="loss of the example", ylabel="weight", ylim=(0, 1))
panel.legend()
plt.show()

# %% [markdown]
# ## What it is worth
#
# Beside the classifier that learned with the weights: plain training as long on all examples, and on the thirty trusted
# ones alone. The test pictures are used here only.


# %%
@jax.jit
def train(inputs, labels):
    """A classifier after `num_steps` updates on minibatches of 100."""

    def update(carried, key):
        params, state = carried
        rows = jax.random.randint(key, (100,), 0, len(inputs))
        of_examples = optax.losses.softmax_cross_entropy_with_integer_labels
        loss = lambda params: jnp.mean(of_examples(network.apply(params, inputs[rows]), labels[rows]))
        updates, state = inner.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = network.init(jax.random.key(1), inputs[:1])
    return jax.lax.scan(update, (params, inner.init(params)), jax.random.split(jax.random.key(2), num_steps))[0][0]


for name, params in (
    ("plain, all examples", train(noisy.train_x, noisy.train_y)),
    ("plain, the trusted ones", train(noisy.trusted_x, noisy.trusted_y)),
    ("with learned weights", classifier),
):
    hits = np.asarray(jnp.argmax(network.apply(params, digits.test_x), axis=-1)) == digits.test_y
    print(f"{name:24} {100 * hits.mean():5.1f} % of the test pictures")

# %% [markdown]
# ## Which labels it trusts

# %%
log_p = np.asarray(jax.nn.log_softmax(network.apply(classifier, noisy.train_x)))
weights = np.asarray(problems.loss_weights(weigher, learned, -log_p[np.arange(len(wrong)), noisy.train_y]))
print(f"mean weight of right labels {weights[~wrong].mean():.2f}, of wrong ones {weights[wrong].mean():.2f}")

figure, panel = plt.subplots(figsize=(5, 3), dpi=75, layout="constrained")
panel.hist([weights[~wrong], weights[wrong]], bins=20, stacked=True, label=["right", "wrong"])
panel.set(xlabel="weight", ylabel="examples")
panel.legend(title="label")
plt.show()

# %% [markdown]
# ## Further
#
# - The other ways to the gradient, second derivatives through one update and implicit differentiation, and other things
#   to learn: [learned losses](../docs/learned-losses.md), with figures for MNIST.
# - `python -m meta_train train weighed_digits` learns the function in the same way, as a recipe for `fit`.
# - The function belongs to the training beside which it was learned. A fresh classifier begins with losses above 2 on
#   all examples, which the function of the end has learned to distrust.
