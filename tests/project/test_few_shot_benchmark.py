"""benchmarks/few_shot.py measures, compares with loops that learn the same, and prints tables of runs."""

import json
import pathlib
import runpy

import jax
import pytest

from meta_train import few_shot

BENCHMARK = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "benchmarks" / "few_shot.py"))
pytestmark = pytest.mark.optax_promotion


@pytest.mark.parametrize("method", BENCHMARK["BY_HAND"])
def test_the_loops_by_hand_learn(method):
    """Episodes of one wave, whose query set is its support set: every method fits it."""
    waves, network = few_shot.sinusoids(shots=3), few_shot.perceptron(1, (4,))
    support, _ = waves.sample(jax.random.key(0), ())
    episodes = waves._replace(sample=lambda key, data: few_shot.Episode(support, support))
    before = network.init(jax.random.key(1), support.inputs)
    loop = BENCHMARK["by_hand"](method, episodes, network, num_steps=1, num_particles=2)
    after = before
    for _ in range(5):
        (after, _), _ = loop(after, jax.random.key(2), ())
    first, last = (episodes.loss(network.apply(params, support.inputs), support.targets) for params in (before, after))
    assert last < first


def test_throughput_and_scaling():
    row = BENCHMARK["throughput"]("sinusoid", "maml", 1)
    assert row["method"] == "maml" and min(row["library_by_hand"], row["library_by_hand_cpu"]) > 0
    row = BENCHMARK["scaling"]("first-order", 2, 1)
    assert row["inner_steps"] == 2 and row["temporary_megabytes"] > 0 and row["cpu_milliseconds"] > 0


def test_table(tmp_path):
    row = {"mean": 0.9, "half_width": 0.011}
    report = {
        "method": "maml",
        "data": "digits-5-way-1-shot",
        "inner_steps": 1,
        "outer_steps": 2000,
        "score": "accuracy",
        "training": {"seconds": 61.2, "cpu_seconds": 60.0, "peak_megabytes": 700},
        "evaluation": [
            {"name": "maml", "inner_steps": 0, **row},
            {"name": "maml", "inner_steps": 1, **row},
            {"name": "maml", "inner_steps": 10, **row},
            {"name": "nearest", "inner_steps": None, **row},
        ],
    }
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    lines = BENCHMARK["table"]([tmp_path]).splitlines()[2:]
    assert lines == [
        "| maml | digits-5-way-1-shot | 1 | 2,000 | 90.0 ± 1.1 % | 60 s | 700 MB |",
        "| nearest | digits-5-way-1-shot | – | – | 90.0 ± 1.1 % | – | – |",
    ]
