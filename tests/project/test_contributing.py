"""The example of a task in CONTRIBUTING.md is short, and trains."""

import ast
import pathlib
import re
import textwrap

import jax
import numpy as np

from meta_train import data

PAGE = pathlib.Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_example_of_a_task_trains():
    (source,) = map(textwrap.dedent, re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    assert function.end_lineno - function.lineno < 30
    names = {}
    exec(source, names)
    task = names[function.name]("example", data.load("digits"), hidden_sizes=(8,), batch_size=32)
    params = task.init(jax.random.key(0), ())

    @jax.jit
    def step(params, key, data):
        loss, grads = jax.value_and_grad(task.loss)(params, key, data, ())
        return jax.tree.map(lambda p, g: p - 0.3 * g, params, grads), loss

    losses = []
    for key in jax.random.split(jax.random.key(1), 50):
        params, loss = step(params, key, task.data)
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert task.evaluate(params, None, task.data, ())["accuracy"] > 0.7
