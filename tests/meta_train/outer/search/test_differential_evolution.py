"""The operators against hand computations."""

import numpy as np

from meta_train.outer.search.differential_evolution import crossover
from meta_train.outer.search.differential_evolution import mutate
from meta_train.outer.search.differential_evolution import offspring


def test_rand_1_by_hand():
    parents = np.array([[0.1, 0.5, 0.9], [0.8, 0.2, 1.0], [0.2, 0.4, 0.0]])
    np.testing.assert_allclose(mutate(parents, factor=0.5), [0.4, 0.4, 1.4], rtol=1e-15)


def test_binomial_crossover_by_hand():
    target, mutant = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 30.0, 40.0])
    draws = np.array([0.49, 0.5, 0.51, 0.1])
    np.testing.assert_array_equal(crossover(target, mutant, draws, 2, probability=0.5), [10, 2, 30, 40])
    np.testing.assert_array_equal(crossover(target, mutant, draws, 0, probability=0.0), [10, 2, 3, 4])


def test_an_offspring_has_numbers_of_the_mutant_and_of_the_target():
    """Of 0.3, 0.4 and 0.6 the mutants are 0.3 ± 0.1, 0.4 ± 0.15 and 0.6 ± 0.05."""
    pool = np.array([[0.3] * 8, [0.4] * 8, [0.6] * 8])
    target, random, share = np.full(8, 0.99), np.random.default_rng(0), []
    seen = set()
    for _ in range(300):
        made = offspring(random, target, pool, factor=0.5, probability=0.5)
        other = made[made != 0.99]
        assert len(other) >= 1 and len(set(other)) == 1
        seen.add(round(float(other[0]), 9))
        share.append(len(other) / 8)
    assert seen == {0.2, 0.4, 0.25, 0.55, 0.65}
    np.testing.assert_allclose(np.mean(share), 1 / 8 + 7 / 16, atol=0.04)


def test_what_leaves_the_range_is_drawn_anew():
    pool = np.array([[0.9] * 2000, [1.0] * 2000, [0.1] * 2000])  # mutants: 0.9 ± 0.45, 1 ± 0.4, 0.1 ± 0.05
    random, outside = np.random.default_rng(1), []
    for _ in range(20):
        made = offspring(random, np.full(2000, 0.5), pool, factor=0.5, probability=1.0)
        assert made.min() >= 0 and made.max() <= 1
        if len(set(made)) > 1:
            outside.append(made)
    assert 0 < len(outside) < 20
    np.testing.assert_allclose(np.mean(outside), 0.5, atol=0.02)
    np.testing.assert_allclose(np.std(outside), 1 / 12**0.5, atol=0.02)
