"""MAML and its relatives: closed forms on quadratics, and that every part of the network and the state is in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.few_shot import evaluate
from meta_train.few_shot import perceptron
from meta_train.few_shot import sinusoids
from meta_train.unroll import truncation

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
SUPPORT_CENTRES, QUERY_CENTRES = np.array([[1.0, -2.0], [0.0, 3.0]]), np.array([[0.5, 0.5], [2.0, -1.0]])
START, RATE, NUM_STEPS = np.array([0.5, 0.25]), 0.3, 5


def _sample(key, data):
    """One of two quadratics, whose minimum on the query set is another than on the support set."""
    index = jax.random.randint(key, (), 0, 2)
    of = lambda centres: Batch(jnp.zeros((1, 1)), jnp.asarray(centres)[index])
    return Episode(of(data[0]), of(data[1]))


QUADRATICS = Episodes(
    name="quadratics",
    train=(SUPPORT_CENTRES, QUERY_CENTRES),
    test=(),
    sample=_sample,
    loss=lambda outputs, centre: 0.5 * (outputs - centre) @ MATRIX @ (outputs - centre),
    num_outputs=2,
    input_shape=(1,),
    classifies=False,
)
POINT = Network(init=lambda key, inputs: jnp.asarray(START), apply=lambda params, inputs: params, head="")
PARTS = Network(  # the point as two entries
    init=lambda key, inputs: {"body": jnp.asarray(START[:1]), "head": jnp.asarray(START[1:])},
    apply=lambda params, inputs: jnp.concatenate([params["body"], params["head"]]),
    head="head",
)


def _estimates(problem, theta, num_steps, **arguments):
    """The loss, and its derivative, of a few episodes of one particle each."""
    estimator = estimators.full_backprop(
        problem, num_particles=1, horizon=truncation.constant(num_steps), **{"rematerialize": False} | arguments
    )
    estimate = jax.jit(estimator.estimate)
    for step in range(6):
        state = estimator.init(jax.random.key(0), theta)
        gradient, _, info = estimate(jax.random.key(step), theta, state, estimator.data)
        yield float(info.loss), gradient


def _check(problem, theta, num_steps, expected, **arguments):
    """Each estimate is that of one of the two episodes, and both are met. `expected` maps centres to both."""
    known = [expected(*centres) for centres in zip(SUPPORT_CENTRES, QUERY_CENTRES, strict=True)]
    met = set()
    for loss, gradient in _estimates(problem, theta, num_steps, **arguments):
        which = int(np.argmin([abs(loss - value) for value, _ in known]))
        np.testing.assert_allclose(loss, known[which][0], rtol=1e-10)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-12), gradient, known[which][1])
        met.add(which)
    assert met == {0, 1}


def _after(start, centre, num_steps):
    """Gradient descent on the quadratic about the centre."""
    contraction = np.linalg.matrix_power(np.eye(2) - RATE * MATRIX, num_steps)
    return centre + contraction @ (start - centre), contraction


@pytest.mark.parametrize("num_steps", [1, NUM_STEPS])
@pytest.mark.parametrize(("second_derivatives", "rematerialize"), [(True, False), (False, False), (True, True)])
def test_maml_and_first_order_maml(num_steps, second_derivatives, rematerialize):
    """(I - aA)^k A (phi_k - c) and A (phi_k - c), for the query set's c."""

    def expected(support_centre, query_centre):
        end, contraction = _after(START, support_centre, num_steps)
        slope = MATRIX @ (end - query_centre)
        loss = 0.5 * (end - query_centre) @ slope
        return loss, contraction @ slope if second_derivatives else slope

    with jax.enable_x64(True):
        problem = problems.initial_parameters(
            QUADRATICS, POINT, optax.sgd(RATE), num_steps, second_derivatives=second_derivatives
        )
        _check(problem, jnp.asarray(START), num_steps, expected, rematerialize=rematerialize)


def test_meta_sgd():
    """One step: with rates r, d/dr = -(A (start - c)) (A (phi - q)), and d/dstart = (I - A diag r) A (phi - q)."""
    rates = np.array([0.2, 0.4])

    def expected(support_centre, query_centre):
        inner_slope = MATRIX @ (START - support_centre)
        end = START - rates * inner_slope
        slope = MATRIX @ (end - query_centre)
        by_start = (np.eye(2) - MATRIX @ np.diag(rates)) @ slope
        return 0.5 * (end - query_centre) @ slope, problems.LearnedRates(by_start, -inner_slope * slope)

    with jax.enable_x64(True):
        problem = problems.initial_parameters(QUADRATICS, POINT, optax.sgd(1.0), 1, learned_rates=True)
        assert problem.bilevel is None
        _check(problem, problems.LearnedRates(jnp.asarray(START), jnp.asarray(rates)), 1, expected)


def test_a_head_that_adapts_alone():
    """One step of the second coordinate; the first is moved by the outer gradient alone."""

    def expected(support_centre, query_centre):
        mask = np.array([0.0, 1.0])
        end = START - RATE * mask * (MATRIX @ (START - support_centre))
        slope = MATRIX @ (end - query_centre)
        by_start = (np.eye(2) - RATE * MATRIX @ np.diag(mask)) @ slope
        return 0.5 * (end - query_centre) @ slope, {"body": by_start[:1], "head": by_start[1:]}

    with jax.enable_x64(True):
        theta = PARTS.init(None, None)
        problem = problems.initial_parameters(QUADRATICS, PARTS, optax.sgd(RATE), 1, adapt=("head",))
        assert list(problem.bilevel.init(jax.random.key(0), theta)) == ["head"]
        _check(problem, theta, 1, expected)


def test_the_head_of_a_network_with_learned_rates():
    network, episodes = perceptron(1, hidden_sizes=(3,)), sinusoids(shots=4, queries=4)
    theta = problems.initial_theta(episodes, network, jax.random.key(0), learned_rates=0.1, adapt=(network.head,))
    assert list(theta.rates) == ["head"] and set(theta.params) == {"linear_0", "head"}
    np.testing.assert_array_equal(theta.rates["head"]["w"], np.full((3, 1), 0.1, np.float32))
    problem = problems.initial_parameters(
        episodes, network, optax.sgd(1.0), 1, learned_rates=True, adapt=(network.head,)
    )
    (_, gradient), *_ = _estimates(problem, theta, 1)
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.optax_promotion
@pytest.mark.parametrize("make", [lambda: optax.adam(0.01), learned_optim.learned_optimizer], ids=["adam", "learned"])
def test_adaptation_goes_where_training_goes(make):
    """The loss that the problem reports is that of the adaptation's answers, for any inner optimizer."""
    network, num_steps, tx = perceptron(1, hidden_sizes=(3,)), 2, make()
    episodes = sinusoids(shots=4, queries=4)
    episodes = episodes._replace(sample=lambda key, data: sinusoids(4, 4).sample(jax.random.key(7), data))  # always one
    theta = problems.initial_theta(episodes, network, jax.random.key(0))
    problem = problems.initial_parameters(episodes, network, tx, num_steps)
    (loss, gradient), *_ = _estimates(problem, theta, num_steps)
    run = problems.adaptation(episodes, network, tx, num_steps)
    found = evaluate(run, theta, episodes, jax.random.key(0), 2, progress=False)
    np.testing.assert_allclose(found.losses, loss, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("learned_rates", [False, True])
def test_adaptation_by_hand(learned_rates):
    rates = np.array([0.5, 1.0])
    theta = problems.LearnedRates(jnp.asarray(START), jnp.asarray(rates)) if learned_rates else jnp.asarray(START)
    run = problems.adaptation(QUADRATICS, POINT, optax.sgd(RATE), 2, learned_rates=learned_rates)
    support, end = Batch(jnp.zeros((1, 1)), jnp.asarray(SUPPORT_CENTRES[0])), START
    for _ in range(2):
        end = end - (rates if learned_rates else 1.0) * RATE * (MATRIX @ (end - SUPPORT_CENTRES[0]))
    np.testing.assert_allclose(run(theta, jax.random.key(0), support, jnp.zeros((1, 1))), end, rtol=1e-5)


@pytest.mark.parametrize("name", ["forward_mode", "truncated_backprop"])
def test_other_estimators_agree_with_full_backprop(name):
    """With windows of the whole episode, and also where vmap makes the step's number differ between particles."""
    with jax.enable_x64(True):
        problem = problems.initial_parameters(QUADRATICS, POINT, optax.sgd(RATE), 3)
        more = {"unroll_length": 3, "stagger": False} if name == "truncated_backprop" else {}
        theta = jnp.asarray(START)
        estimator = getattr(estimators, name)(problem, num_particles=3, horizon=truncation.constant(3), **more)
        state, slopes = estimator.init(jax.random.key(0), theta), []
        estimate = jax.jit(estimator.estimate)
        _, state, _ = estimate(jax.random.key(0), theta, state, estimator.data)  # the first window knows no start
        gradient, _, info = estimate(jax.random.key(1), theta, state, estimator.data)
        for support_centre, query_centre in zip(SUPPORT_CENTRES, QUERY_CENTRES, strict=True):
            end, contraction = _after(START, support_centre, 3)
            slopes.append(contraction @ MATRIX @ (end - query_centre))
        means = [(i * slopes[0] + (3 - i) * slopes[1]) / 3 for i in range(4)]  # i of three particles drew the first
        assert min(np.abs(gradient - mean).max() for mean in means) < 1e-10
        assert float(info.loss) > 0


def test_refusals():
    build = functools.partial(problems.initial_parameters, QUADRATICS, PARTS, optax.sgd(RATE))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        build(0)
    with pytest.raises(ValueError, match="num_steps must not be negative, got -1"):
        problems.adaptation(QUADRATICS, PARTS, optax.sgd(RATE), -1)
    for names in (("neck",), ()):
        with pytest.raises(ValueError, match=r"at least one of \['body', 'head'\], got \["):
            build(1, adapt=names).init(jax.random.key(0), PARTS.init(None, None), 1)
