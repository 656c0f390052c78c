"""How many runs of a task a program makes side by side.

Each lane has its own parameters, gradients and optimizer state. A small model needs several lanes to keep a core busy.
A large model keeps it busy alone, and more lanes would only take memory. An accelerator takes as many as fit.

Lanes have filters of their own, so side by side a convolution becomes a grouped one, which XLA runs slowly on CPUs and
takes long to compile: a small convolutional net on 8×8 images made twice the steps a second alone, with a third of the
compilation. The convolutions of `meta_train.tasks` are products of patches, to which this does not apply.
"""

import jax
import jax.numpy as jnp

from meta_train.evaluation import tuning
from meta_train.tasks.base import Task
from meta_train.tasks.base import num_parameters

MOST_PARAMETERS = 200_000  # of a model that is trained side by side on a CPU
MOST_ON_ACCELERATOR = 100_000_000  # parameters of all lanes together
MOST_LANES = 20  # on an accelerator


def num_lanes(task: Task, num_seeds: int, *, tuned: bool) -> int:
    """The number of lanes of a program.

    On a CPU it is one if the model has more than `MOST_PARAMETERS` or convolves, otherwise one for each seed. On an
    accelerator, where one more lane costs little, it is up to `MOST_LANES` if the program is used for tuning, as long
    as all lanes together have at most `MOST_ON_ACCELERATOR` parameters.

    Args:
      task: what to train.
      num_seeds: runs that are reported.
      tuned: whether the program is used for tuning too. For a small model it then has at least `tuning.MIN_LANES`.

    Example:
      >>> from meta_train import tasks
      >>> num_lanes(tasks.get("quadratic"), 3, tuned=True)
      5
    """
    if jax.default_backend() != "cpu":
        wanted = max(num_seeds, MOST_LANES) if tuned else num_seeds
        return max(1, min(wanted, MOST_ON_ACCELERATOR // max(1, num_parameters(task))))
    if num_parameters(task) > MOST_PARAMETERS or convolves(task):
        return 1
    return max(num_seeds, tuning.MIN_LANES) if tuned else num_seeds


def convolves(task: Task) -> bool:
    """Whether the loss of a task has convolutions of XLA, as those of Flax, Haiku and Equinox are.

    Example:
      >>> from meta_train import tasks
      >>> convolves(tasks.get("quadratic"))
      False
    """

    def loss(key, data):
        config = task.sample(key)
        return task.loss(task.init(key, config), key, data, config)

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), task.data)
    return "conv_general_dilated" in str(jax.make_jaxpr(loss)(jax.random.key(0), shapes))
