# %% [markdown]
# # Meta-train an optimizer of your own, in ten minutes on a laptop
#
# You train the same kind of task again and again. Can an optimizer be trained for it? In this notebook a network of
# 178 random weights becomes one in a few minutes, for a perceptron on handwritten digits.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_optim
import meta_train
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.evaluation import evaluate
from meta_train.evaluation import report
from meta_train.unroll import truncation

small = os.environ.get("NOTEBOOK_SCALE") == "small"  # the tests run this notebook with fewer steps
meta_train.use_all_cores()  # before any other JAX work

# %% [markdown]
# ## Four choices
#
# 1. **A task**: an MLP on the digits that come with scikit-learn.
# 2. **An architecture**: `mlp`, a network that is applied to every coordinate of every tensor. Its inputs are the
#    gradient, the parameter, six momenta and the time; its output is the update. Its weights are the meta-parameters,
#    theta.
# 3. **An estimator** of the meta-gradient: `pes` unrolls runs of 100 to 500 inner steps in windows of 50. It runs 32
#    antithetic pairs side by side, each with theta plus and minus the same noise ([how it
#    works](05_why_truncation_is_biased.ipynb)).
# 4. **An outer optimizer** for theta: Adam, with cosine decay.

# %%
num_outer_steps = 4 if small else 600
task = tasks.get("digits-mlp")
optimizer = learned_optim.mlp(hidden_sizes=(8,))
estimator = estimators.pes(
    problems.optimizer_weights(optimizer, task),
    num_particles=4 if small else 32,
    unroll_length=50,
    horizon=truncation.log_uniform(100, 500),
    std=0.01,
)
outer_optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, num_outer_steps, alpha=0.1))

theta = optimizer.init(jax.random.key(0))
print(sum(leaf.size for leaf in jax.tree.leaves(theta)), "weights")

# %% [markdown]
# ## Training
#
# `fit` makes the outer steps. It keeps metrics and checkpoints in `run_dir`. If it is stopped, the same call
# continues. It also shows a progress bar, which is switched off here.

# %%
result = meta_train.fit(
    estimator, theta, outer_optimizer, num_steps=num_outer_steps, run_dir="runs/mine", resume=True, progress=False
)
learned_optim.save("runs/mine/theta.safetensors", optimizer, result.theta)

rows = result.metrics
inner_steps = sum(row["inner_steps"] for row in rows)
print(f"{rows[-1]['seconds']:.0f} seconds, compilation included, for {inner_steps / 1e6:.1f} million inner steps")

# %% [markdown]
# The meta-loss is the mean over a run's inner steps of log(loss / loss of guessing + .02). A value of 0 means that
# nothing was learned; lower is faster. (The steep part at the beginning is not learning. All runs have just begun
# then, so their losses are still high.)

# %%
losses = np.array([row["loss"] for row in rows])
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), dpi=75, layout="constrained")
left.plot(losses, linewidth=1)
left.set(xlabel="outer step", ylabel="meta-loss")
right.plot([row["grad_norm"] for row in rows], linewidth=1)
right.set(xlabel="outer step", ylabel="norm of the meta-gradient", yscale="log")
plt.show()
tenth = max(1, len(losses) // 10)
print(f"meta-loss, first and last tenth: {losses[:tenth].mean():.2f} and {losses[-tenth:].mean():.2f}")

# %% [markdown]
# ## Does it work?
#
# The saved optimizer is loaded as a user would load it. It trains the task from seeds that no meta-training has used.
# Its rivals are itself before training, the released default, Adam at 1e-3, and Adam with the best of 19 learning
# rates for this task.

# %%
optimizer, trained = learned_optim.load("runs/mine/theta.safetensors")
contenders = {
    "yours": optimizer.transform(trained),
    "yours, before training": optimizer.transform(theta),
    "default": learned_optim.learned_optimizer(num_steps=500),
}
if small:
    results = [evaluate.run(task, contenders["yours"], num_steps=20, num_seeds=2, name="yours")]
else:
    results = evaluate.compare(task, contenders, num_steps=500)
print(report.table(results))

figure, panel = plt.subplots(figsize=(7, 3.5), dpi=75, layout="constrained")
for one in results:
    panel.plot(one.losses.mean(axis=0), label=one.optimizer, linewidth=1)
panel.set(xlabel="step", ylabel="training loss, mean of the seeds", yscale="log")
panel.grid(alpha=0.3)
panel.legend(fontsize=8)
plt.show()

# %% [markdown]
# The random network has become an optimizer whose final loss is thirty times lower than before, and also far below that
# of Adam at 1e-3. In this run it ends at three times the loss of Adam with a tuned rate. The default ends far lower
# than both. It was not meta-trained: its few constants were chosen by scans of whole trainings.
#
# The result of so short a meta-training depends on rounding. Three earlier runs of these cells, with other versions of
# the library, ended at 0.00002, 0.001 and 0.007; two of them were below tuned Adam. Expect as much variation on your
# machine. (This run took 13 minutes, because it shared its two cores with other programs. Alone on them, an earlier one
# took 53 seconds.)
#
# Look at the held-out loss too. At 0.13 it is only a little below what it was before meta-training (0.16), and seven
# times that of the default (0.018). The meta-loss was the training loss, so little else improved. `objectives.held_out`
# uses the held-out loss instead.
#
# ## What it has not learned
#
# It was trained on one task, with runs of at most 500 steps. The next cell runs it for 2,000 steps, and on tasks that
# it has not seen: a wider and a deeper network on the same digits, and a small network on irises.

# %%
print("                             training loss at 500 and 2,000 steps   held-out loss at the end")
for name in () if small else ("digits-mlp", "digits-wide", "digits-deep-tanh", "iris-mlp"):
    for label, tx in {"yours": optimizer.transform(trained), "Adam 1e-3": optax.adam(1e-3)}.items():
        one = evaluate.run(tasks.get(name), tx, num_steps=2000, num_seeds=5)
        at_500, at_2000 = one.losses[:, 450:500].mean(), one.losses[:, 1800:].mean()
        print(f"{name:16}  {label:9}  {at_500:18.1e}   {at_2000:12.1e}   {one.held_out['loss'].mean():18.2f}")

# %% [markdown]
# At 500 steps it is ahead of Adam at 1e-3 on all four tasks, three of which it has not seen. Beyond 500 steps its
# training loss rises on the deeper network, where Adam at 1e-3 overtakes it. Its held-out losses are far above Adam's
# on all four, since nothing has taught it to stop.
#
# What helps: more tasks (give `fit` a list of estimators), longer runs, random variation of the episodes
# (`tasks.get(name, sampled=True)`), and an architecture that knows the end of the run (`prodigy_muon`).
# `meta_train/recipes/prodigy_muon_schedule_v1.py` uses all of these.
