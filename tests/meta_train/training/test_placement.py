"""Which devices a run takes, and that its data get there once."""

import itertools
import math

import jax
import numpy as np
import pytest

from meta_train import Estimator
from meta_train.training import placement


def _estimators(*counts):
    """Estimators of so many particles, which nobody runs."""
    return [Estimator(lambda key, theta: (), lambda *_, **__: ((), (), ()), (), count, "idle") for count in counts]


def test_by_default_as_many_devices_as_divide_the_particles(monkeypatch):
    """The largest number of twelve devices that divides all counts and the twelve, found by trying."""
    devices = jax.devices()[:1] * 12
    monkeypatch.setattr(jax, "devices", lambda: devices)
    for counts in itertools.combinations_with_replacement(range(1, 13), 2):
        fitting = [n for n in range(1, 13) if not any(count % n for count in (12, *counts))]
        assert len(placement.choose_devices(_estimators(*counts), None)) == max(fitting)


def test_the_first_devices_are_taken():
    assert placement.choose_devices(_estimators(4, 6), None) == jax.devices()[:2]
    assert placement.choose_devices(_estimators(4, 3), None) == jax.devices()[:1]


def test_given_devices_are_taken_in_their_order():
    devices = jax.devices()[1::-1]
    assert placement.choose_devices(_estimators(4, 6), devices) == devices


def test_particles_that_do_not_divide_among_given_devices():
    with pytest.raises(ValueError, match=r"got num_particles \[4, 3\] on 2 devices: choose multiples of 2"):
        placement.choose_devices(_estimators(4, 3), jax.devices()[:2])
    with pytest.raises(ValueError, match="devices must name at least one device, got none"):
        placement.choose_devices(_estimators(4), [])


def test_each_process_needs_particles(monkeypatch):
    """Here the second of two processes has no device. Without particles it would wait for ever."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"got num_particles \[3\] for 2 processes with 2 devices in all: choose mult"):
        placement.choose_devices(_estimators(3), None)


def test_arrays_are_moved_once_each_and_keep_their_values():
    """Three distinct arrays in five places, two of them equal but not the same."""
    first, second = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)
    data = ({"x": first, "y": second}, (first, 7 * first), [second])
    sharding = jax.sharding.NamedSharding(jax.make_mesh((2,), ("all",)), jax.P())
    placed = placement.put_once(data, sharding)
    jax.tree.map(np.testing.assert_array_equal, placed, data)
    leaves = jax.tree.leaves(placed)
    assert all(leaf.sharding == sharding for leaf in leaves)
    assert placed[0]["x"] is placed[1][0]
    assert placed[0]["y"] is placed[2][0]
    assert len({id(leaf) for leaf in leaves}) == len({id(leaf) for leaf in jax.tree.leaves(data)}) == 3
    assert math.prod(placed[0]["x"].addressable_shards[0].data.shape) == first.size  # whole on each device
