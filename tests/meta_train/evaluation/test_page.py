"""The files of an evaluation: JSON, plots, and the page that stands alone, with a section for each horizon."""

import json

import numpy as np

from meta_train.evaluation import page
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement
from meta_train.evaluation.timing import Timing


def _result(name, final, steps, rate=None):
    losses = np.full((2, steps), 1.0)
    losses[:, -1] = final
    return Result(name, losses, {"loss": np.full(2, 3.0)}, rate, 0.5, 1234)


def _judged(steps, finals):
    return Judgement(
        [_result("mine <1>", finals, steps)],
        [_result("Adam 0.01 (tuned)", 0.2, steps, 0.01)],
        {"adam": np.array([[2.0, 2.0]])},
    )


def test_json_plots_and_a_page_that_stands_alone(tmp_path):
    judgements = {steps: {"easy": _judged(steps, 0.1), "hard": _judged(steps, [0.1, np.nan])} for steps in (10, 2000)}
    judgements[10]["hard"] = _judged(10, 0.1)
    out = tmp_path / "deeper" / "found.json"
    timings = {"mine <1>": Timing(0.5, 2.0), "Adam (tuned)": Timing(0.25, 1.0)}
    made = page.write(out, "A <title>", judgements, {"easy": timings, "hard": timings})
    names = ["found.json", "found.html", *(f"found-{x}-{y}.png" for x in (10, 2000) for y in ("curves", "profile"))]
    assert [path.name for path in made] == names
    assert all(path.stat().st_size > 1000 for path in made)

    record = json.loads(out.read_text())
    assert record["title"] == "A <title>"
    assert list(record["horizons"]) == ["10", "2000"]
    assert [record["horizons"][key]["verdict"]["against"][0]["lost"] for key in ("10", "2000")] == [[], ["hard"]]
    assert record["horizons"]["2000"]["tasks"]["easy"][0]["num_steps"] == 2000
    assert [race["unit"] for race in record["horizons"]["10"]["time_to_target"]] == ["steps", "seconds"]
    assert record["timings"]["hard"]["Adam (tuned)"] == {"step_seconds": 0.25, "compile_seconds": 1.0}

    text = made[1].read_text()
    assert text.count("data:image/png;base64,") == 4
    assert "http" not in text
    assert "mine &lt;1&gt;" in text
    assert "mine <1>" not in text
    for part in ("A &lt;title&gt;", "<h2>10 steps</h2>", "<h3>easy</h3>", "Adam 0.01 (tuned)", "1,234", "0.500"):
        assert part in text
    first, second = text.split("<h2>2,000 steps</h2>")
    assert "diverged in 1 of 2" not in first
    assert "diverged in 1 of 2" in second
    assert "under load" in first
    assert "seconds to training loss" in second


def test_what_is_cut_and_rates_at_the_edge_are_marked(tmp_path):
    judged = _judged(10, 0.1)
    baseline = judged.baselines[0]._replace(at_edge=True)
    edge = Judgement(judged.contenders, [baseline], {"adam": np.array([[4.0, 4.0]])})
    made = page.write(tmp_path / "found.json", "title", {10: {"easy": judged}, 20: {"easy": edge}})
    first, second = made[1].read_text(encoding="utf-8").split("<h2>20 steps</h2>")
    assert "edge of" not in first and "&ge;" not in first and "≥" not in first
    assert "<td>Adam 0.01* (tuned)</td>" in second
    assert "<p>* The tuned rate is at the edge of the grid" in second
    assert "rate of Adam (tuned) at the edge of its grid on easy" in second
    assert "tuned: ≥ 4.00 (4.00 to 4.00), within 0.25 to 4; 100% of runs ≥ 4" in second


def test_a_prior_has_rows_and_a_summary_and_no_place_among_the_rivals(tmp_path):
    judged = _judged(10, 0.1)
    before = _judged(10, 0.05).contenders[0]._replace(optimizer="mine <1>, before training")
    judged = judged._replace(contenders=[*judged.contenders, before], speedups={"adam": np.array([[2.0], [3.0]])})
    out = tmp_path / "found.json"
    page.write(out, "title", {10: {"easy": judged}}, with_prior=True)
    record = json.loads(out.read_text())["horizons"]["10"]
    assert record["prior"]["prior_log_ratio"] < record["prior"]["log_ratio"] < 0
    names = [row["optimizer"] for row in record["tasks"]["easy"]]
    assert names == ["mine <1>", "mine <1>, before training", "Adam 0.01 (tuned)"]
    (race,) = record["time_to_target"]
    assert len(race["standings"]) == 2
    text = out.with_suffix(".html").read_text()
    assert "Mean log ratio of the final training loss to that of Adam (tuned), over 1 task" in text
    assert text.count("mine &lt;1&gt;, before training") == 2  # the row, and the summary

    page.write(out, "title", {10: {"easy": _judged(10, 0.1)}})
    assert "prior" not in json.loads(out.read_text())["horizons"]["10"]
    assert "Mean log ratio" not in out.with_suffix(".html").read_text()
