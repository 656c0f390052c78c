"""Consolidation: the joint optimum of diagonal quadratics, and the penalty by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import continual


def _quadratics(num_tasks):
    """Curvatures and minima of diagonal quadratics, float64[tasks, 6]."""
    random = np.random.default_rng(0)
    return random.uniform(0.1, 3.0, (num_tasks, 6)), random.normal(size=(num_tasks, 6))


def test_diagonal_quadratics_end_at_the_joint_optimum():
    """L_k is half the sum of a_k (w - m_k)^2, its Fisher a_k: with weight 1 nothing of earlier tasks is lost."""
    curvatures, minima = _quadratics(4)
    with jax.enable_x64(True):
        w = jnp.zeros(6, jnp.float64)
        state = continual.nothing_consolidated(w)
        for a, m in zip(jnp.asarray(curvatures), jnp.asarray(minima), strict=True):
            loss = lambda w, a=a, m=m, state=state: 0.5 * jnp.sum(a * (w - m) ** 2) + continual.penalty(state, w)
            w = w - jax.grad(loss)(w) / (a + state.importance)  # Newton's step is exact
            state = continual.consolidate(state, w, a)
        joint = np.sum(curvatures * minima, axis=0) / np.sum(curvatures, axis=0)
        np.testing.assert_allclose(w, joint, rtol=1e-12)
        np.testing.assert_allclose(state.importance, curvatures.sum(axis=0), rtol=1e-14)
        assert np.max(np.abs(joint - minima[-1])) > 0.5  # where plain training would end
    two = curvatures[0] * minima[0] + curvatures[1] * minima[1]
    second = two / (curvatures[0] + curvatures[1])  # a penalty around each task's end counts the first task twice
    apart = (curvatures[0] * minima[0] + curvatures[1] * second + curvatures[2] * minima[2]) / curvatures[:3].sum(
        axis=0
    )
    assert np.max(np.abs(apart - (two + curvatures[2] * minima[2]) / curvatures[:3].sum(axis=0))) > 0.1


def test_the_penalty_by_hand():
    state = continual.nothing_consolidated({"a": jnp.zeros(2), "b": jnp.zeros(())})
    for at, importance in ((5.0, 1.0), (1.0, 3.0)):
        params = {"a": jnp.full(2, at), "b": jnp.float32(at)}
        state = continual.consolidate(state, params, {"a": jnp.full(2, importance), "b": jnp.float32(0.5)})
    w = {"a": jnp.array([1.0, 3.0]), "b": jnp.float32(-1.0)}
    assert float(continual.penalty(state, w)) == 0.5 * (4.0 * 2.0**2 + 1.0 * 2.0**2)


def test_parameters_without_importance_are_free():
    w = jnp.array([1.0, 2.0])
    state = continual.nothing_consolidated(w)
    assert float(continual.penalty(state, w + 5.0)) == 0.0
    state = continual.consolidate(state, w, jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(jax.grad(lambda w: continual.penalty(state, w))(w + 3.0), [0.0, 6.0])
    assert np.all(np.isfinite(state.center))
