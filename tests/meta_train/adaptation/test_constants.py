"""The coordinates of the search: each moves what its name says."""

import jax
import jax.flatten_util
import numpy as np

import learned_optim
from meta_train.adaptation import constants


def test_each_coordinate_moves_its_own_numbers():
    optimizer, theta = learned_optim.load_pretrained()
    assert optimizer.spec["kind"] == constants.KIND
    flat, unravel = jax.flatten_util.ravel_pytree(theta)
    found = constants.moves(theta)
    assert len({tuple(row) for row in found}) == len(found) == len(set(constants.names()))
    assert np.linalg.matrix_rank(found) == len(found)  # none repeats others
    moved = dict(zip(constants.names(), found, strict=True))
    tree = unravel((flat + moved["weight_decay"]).astype(np.float32))
    np.testing.assert_allclose(tree["decay"]["base"] - theta["decay"]["base"], np.log(3.0), rtol=1e-5)
    np.testing.assert_array_equal(tree["step"], theta["step"])
    tree = unravel((flat + moved["step_size"]).astype(np.float32))
    np.testing.assert_allclose(tree["control"]["first"] - theta["control"]["first"], np.log(2.0), rtol=1e-5)
    tree = unravel((flat + moved["k_expansion"] + moved["q_expansion"]).astype(np.float32))
    place = learned_optim.optimizers.adaptive_muon.__globals__["TensorFeatures"]._fields.index("expansion")
    assert np.flatnonzero(tree["step"] - theta["step"]).tolist() == [place]
    assert np.flatnonzero(tree["decay"]["skip"] - theta["decay"]["skip"]).tolist() == [place]


def test_what_runs_of_unknown_length_use_stays():
    _, theta = learned_optim.load_pretrained()
    moved = jax.tree.map(np.zeros_like, theta)
    moved["unknown_horizon"] = jax.tree.map(np.ones_like, theta["unknown_horizon"])
    unknown, _ = jax.flatten_util.ravel_pytree(moved)
    assert not (constants.moves(theta) @ np.asarray(unknown)).any()
