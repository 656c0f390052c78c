"""Golden trajectories: the updates of 20 steps on a fixed problem, which no change of code or of a library may move.

    python tests/goldens/regenerate.py NAME …

writes the named ones. A name of the registry in `tests/learned_optim/optimizers/test_contract.py` rewrites its entry of
`optimizers.json` and leaves all others as they are. A name of a released theta writes its file in `released/`, if there
is none: released weights do not change, and neither does what they compute. `--all` instead of names rewrites all of
`optimizers.json` and writes the released files that are missing.

Review the difference before you commit it; an update rule that changed on purpose needs a new FEATURE_VERSION.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np

import learned_optim
from learned_optim import nearest

FOLDER = pathlib.Path(__file__).parent
COMMAND = "python tests/goldens/regenerate.py NAME"
NUM_STEPS = 20
START = 0.3  # scale of the parameters for the registry's goldens


def fixed_theta(optimizer, seed=0):
    """Meta-parameters that depend on no version of JAX: NumPy promises that the stream of RandomState never changes."""
    random = np.random.RandomState(seed)
    skeleton = jax.eval_shape(optimizer.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(random.standard_normal(leaf.shape) * 0.5, np.float32)), skeleton
    )


def trajectory(optimizer, theta, start=0.0):
    """The updates of all steps, float32[20, 10]: a row holds those of a vector [3], a scalar and a matrix [2, 3].

    Parameters are drawn from a normal distribution of standard deviation `start`. Steps in units of the parameters need
    some; released goldens start from zero, as they always did.
    """
    random = np.random.RandomState(1)
    shapes = {"bias": (3,), "scale": (), "w": (2, 3)}
    target = {
        name: jax.device_put(np.asarray(random.standard_normal(shape), np.float32)) for name, shape in shapes.items()
    }
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

    draw = lambda leaf: jax.device_put(np.asarray(start * random.standard_normal(leaf.shape), np.float32))
    params = jax.tree.map(draw, target)
    state = tx.init(params)
    rows = []
    for _ in range(NUM_STEPS):
        updates, params, state = step(params, state)
        rows.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)]))
    return np.stack(rows)


def assert_matches(actual, golden, name, tolerance=4e-4):
    """Compares a trajectory with its golden: `tolerance` of each update, or of the largest at that step.

    At the first step 5e-5: the first direction of Adam is a matrix of signs, often of rank one, and orthogonalization
    amplifies the rounding errors in its other singular values fortyfold. Later steps amplify what rounding does there,
    on one kind of processor more than on another, and with random weights more than with trained ones.
    """
    golden = np.asarray(golden)
    scale = np.maximum(np.abs(golden), 0.1 * np.abs(golden).max(axis=1, keepdims=True))
    error = np.max(np.abs(actual - golden) / scale, axis=1)
    assert error[0] <= 5e-5 and np.all(error <= tolerance), (
        f"{name} no longer computes its golden updates: relative error {error.max():.1e}, and {error[0]:.1e} at the "
        f"first step. If a registry entry or an update rule changed on purpose, run `{COMMAND}`; the golden of a "
        "released theta never changes."
    )


def read(path):
    """The goldens in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"), parse_int=float)  # -0 is a float, too


def regenerate(names: Sequence[str], folder: pathlib.Path = FOLDER):
    """Writes the goldens of these names, see above.

    Raises:
      ValueError: if there is no such name, or it is of a released theta that has its golden. Nothing is written then.
    """
    registry = _registry()
    released = learned_optim.list_pretrained()
    for name in names:
        if name not in registry and name not in released:
            known = (*registry, *released)
            raise ValueError(f"there is no golden {name!r}. {nearest.hint(name, known)}Choose from {', '.join(known)}.")
        if name in released and _released_file(folder, name).exists():
            raise ValueError(f"the golden of {name!r} is there. It never changes, as released weights do not.")
    own = {name: _of_registry(made) for name, made in registry.items() if name in names}
    if own:
        _write(folder / "optimizers.json", {**read(folder / "optimizers.json"), **own})
    for name in released:
        if name in names:
            _write(_released_file(folder, name), {name: trajectory(*learned_optim.load_pretrained(name))})


def regenerate_all(folder: pathlib.Path = FOLDER):
    """Writes the goldens of the whole registry, and those of released thetas that are missing."""
    _write(folder / "optimizers.json", {name: _of_registry(made) for name, made in _registry().items()})
    regenerate([name for name in learned_optim.list_pretrained() if not _released_file(folder, name).exists()], folder)


def main(arguments: Sequence[str] | None = None):
    """Writes what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="*", help="of an architecture, or of a released theta that has no golden yet")
    parser.add_argument("--all", action="store_true", help="rewrite optimizers.json, and write what is missing")
    given = parser.parse_args(arguments)
    if given.all == bool(given.name):
        parser.error("name the goldens to write, or give --all, not both.")
    try:
        regenerate_all() if given.all else regenerate(given.name)
    except ValueError as error:
        parser.error(str(error))


def _registry():
    return runpy.run_path(str(FOLDER.parent / "learned_optim" / "optimizers" / "test_contract.py"))["OPTIMIZERS"]


def _of_registry(optimizer):
    return trajectory(optimizer, fixed_theta(optimizer), START)


def _released_file(folder, name):
    return folder / "released" / f"{name}.json"


def _write(path, trajectories):
    """One line per step, nine digits a number: enough for every float32."""
    entries = []
    for name, rows in sorted(trajectories.items()):
        lines = ",\n".join("  [" + ", ".join(f"{value:.9g}" for value in row) + "]" for row in rows)
        entries.append(f" {json.dumps(name)}: [\n{lines}\n ]")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    print(f"wrote {path.name}: {', '.join(trajectories)}")


if __name__ == "__main__":
    main()
