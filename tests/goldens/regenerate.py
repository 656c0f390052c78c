"""Golden trajectories: the updates of 20 steps on a fixed problem, which no change of code or of a library may move.

    python tests/goldens/regenerate.py

writes `optimizers.json` again, for the registry in `tests/learned_optim/optimizers/test_contract.py`, and the files
that are missing in `released/`, one for each released theta. It never overwrites one of those: released weights do not
change, and neither does what they compute. Review the difference in `optimizers.json` before you commit it; an update
rule that changed on purpose needs a new FEATURE_VERSION.
"""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np

import learned_optim

FOLDER = pathlib.Path(__file__).parent
COMMAND = "python tests/goldens/regenerate.py"
NUM_STEPS = 20
START = 0.3  # scale of the parameters for the registry's goldens


def fixed_theta(optimizer, seed=0):
    """Meta-parameters that depend on no version of JAX: NumPy promises that the stream of RandomState never changes."""
    random = np.random.RandomState(seed)
    skeleton = jax.eval_shape(optimizer.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) * 0.5, jnp.float32), skeleton)


def trajectory(optimizer, theta, start=0.0):
    """The updates of all steps, float32[20, 10]: a row holds those of a vector [3], a scalar and a matrix [2, 3].

    Parameters are drawn from a normal distribution of standard deviation `start`. Steps in units of the parameters need
    some; released goldens start from zero, as they always did.
    """
    random = np.random.RandomState(1)
    shapes = {"bias": (3,), "scale": (), "w": (2, 3)}
    target = {name: jnp.asarray(random.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}
    curvature = {"bias": 0.01, "scale": 10.0, "w": jnp.asarray([[1.0, 0.1, 3.0], [1e-3, 30.0, 1e-5]])}
    tx = optimizer.transform(theta, num_steps=NUM_STEPS)

    def loss_fn(params):
        terms = jax.tree.map(lambda p, t, c: 0.5 * jnp.sum(c * jnp.square(p - t)), params, target, curvature)
        return jnp.sum(jnp.stack(jax.tree.leaves(terms)))

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return updates, jax.tree.map(jnp.add, params, updates), state

    draw = lambda leaf: jnp.asarray(start * random.standard_normal(leaf.shape), jnp.float32)
    params = jax.tree.map(draw, target)
    state = tx.init(params)
    rows = []
    for _ in range(NUM_STEPS):
        updates, params, state = step(params, state)
        rows.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)]))
    return np.stack(rows)


def assert_matches(actual, golden, name, tolerance=1e-4):
    """Compares a trajectory with its golden: `tolerance` of each update, or of the largest at that step.

    At the first step a tenth of it: what rounding does there, later steps may amplify.
    """
    golden = np.asarray(golden)
    scale = np.maximum(np.abs(golden), 0.1 * np.abs(golden).max(axis=1, keepdims=True))
    error = np.max(np.abs(actual - golden) / scale, axis=1)
    assert error[0] <= 0.1 * tolerance and np.all(error <= tolerance), (
        f"{name} no longer computes its golden updates: relative error {error.max():.1e}, and {error[0]:.1e} at the "
        f"first step. If a registry entry or an update rule changed on purpose, run `{COMMAND}`; the golden of a "
        "released theta never changes."
    )


def read(path):
    """The goldens in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def main():
    """Writes `optimizers.json`, and what is missing in `released/`."""
    registry = runpy.run_path(str(FOLDER.parent / "learned_optim" / "optimizers" / "test_contract.py"))["OPTIMIZERS"]
    goldens = {id: trajectory(made, fixed_theta(made), START) for id, made in registry.items()}
    _write(FOLDER / "optimizers.json", goldens)
    for name in learned_optim.list_pretrained():
        path = FOLDER / "released" / f"{name}.json"
        if not path.exists():
            _write(path, {name: trajectory(*learned_optim.load_pretrained(name))})


def _write(path, trajectories):
    """One line per step, nine digits a number: enough for every float32."""
    entries = []
    for name, rows in sorted(trajectories.items()):
        lines = ",\n".join("  [" + ", ".join(f"{value:.9g}" for value in row) + "]" for row in rows)
        entries.append(f" {json.dumps(name)}: [\n{lines}\n ]")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    print(f"wrote {path.relative_to(FOLDER)}")


if __name__ == "__main__":
    main()
