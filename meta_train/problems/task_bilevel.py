"""A task as a `Bilevel`: its training loss within, a loss to judge trainings by without."""

import jax

from meta_train.tasks.base import Task
from meta_train.unroll.problem import Bilevel


def task_bilevel(task: Task, *, held_out: bool = True) -> Bilevel:
    """Builds the problem of training a task's model, with no theta in it: schedules and penalties bring theirs.

    Args:
      task: the task.
      held_out: whether the outer loss is the held-out loss; else it is the training loss on a fresh minibatch.

    Returns:
      A `Bilevel` with the task's data and name.

    Raises:
      ValueError: if the task draws something anew in each episode, such as scales, since `Bilevel.init` cannot know it.

    Example:
      >>> from meta_train import tasks
      >>> bilevel = task_bilevel(tasks.get("digits-softmax"))
      >>> params = bilevel.init(jax.random.key(0), ())
      >>> bool(2.0 < bilevel.outer_loss(params, (), jax.random.key(1), bilevel.data) < 3.0)  # about log 10
      True
    """
    config = jax.eval_shape(task.sample, jax.eval_shape(jax.random.key, 0))
    if jax.tree.leaves(config):
        raise ValueError(
            f"{task.name} draws a config in each episode, and here all trainings must be of one problem: take a task "
            "without variation."
        )
    config = jax.tree.unflatten(jax.tree.structure(config), [])

    def inner_loss(params, theta, key, data):
        del theta
        return task.loss(params, key, data, config)

    def outer_loss(params, theta, key, data):
        del theta
        return task.evaluate(params, key, data, config)["loss"] if held_out else task.loss(params, key, data, config)

    return Bilevel(inner_loss, outer_loss, lambda key, theta: task.init(key, config), task.data, task.name)
