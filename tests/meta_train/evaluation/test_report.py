"""Tables, plots and JSON."""

import json
import struct

from matplotlib.figure import Figure
import numpy as np
import pytest

from meta_train.evaluation import report
from meta_train.evaluation.evaluate import Along
from meta_train.evaluation.evaluate import Result

GOOD = Result("good", np.linspace(2.0, 0.5, 80).reshape(2, 40), {"loss": np.array([1.0, 3.0])})
DIVERGED = Result("diverged", np.full((2, 40), np.nan), {"loss": np.array([np.nan, np.inf])})


def test_table_gives_means_and_standard_errors():
    header, line = report.table([GOOD]).splitlines()
    finals = GOOD.losses[:, -4:].mean(axis=1)
    error = np.abs(finals[0] - finals[1]) / 2  # of the mean of two
    assert f"{finals.mean():.3f} ± {error:.3f}" in line
    assert "2.000 ± 1.000" in line
    assert header.split("  ")[0].strip() == "optimizer"
    assert "held-out loss" in header


def test_table_of_one_seed_has_no_error_and_small_numbers_keep_their_digits():
    result = Result("tiny", np.full((1, 10), 1.5e-4), {"loss": np.array([0.25])})
    line = report.table([result]).splitlines()[1]
    assert "1.50e-04" in line
    assert "±" not in line


def test_what_was_measured_along_the_way_and_tuned_is_in_table_and_json():
    along = Along(np.array([20, 40]), {"loss": np.array([[0.5, np.nan], [1.0, 3.0]])})
    result = GOOD._replace(along=along, learning_rate=0.1, hyperparameters={"learning_rate": 0.1, "beta2": 0.9})
    header, line = report.table([result]).splitlines()
    assert header.endswith("held-out loss  best held-out loss")
    assert line.endswith("1.750 ± 1.250")
    (record,) = json.loads(json.dumps(report.as_json({"task": [result]}), allow_nan=False))["task"]
    assert record["hyperparameters"] == {"learning_rate": 0.1, "beta2": 0.9}
    assert record["best_held_out_loss"] == [0.5, 3.0]
    assert record["along"] == {"steps": [20, 40], "held_out": {"loss": [None, 2.0]}}
    assert "along" not in report.as_json({"task": [GOOD]})["task"][0]


def test_a_rate_at_the_edge_of_the_grid_is_marked():
    edge = GOOD._replace(optimizer="SGD, momentum .9 10 (tuned)", learning_rate=10.0, at_edge=True)
    inside = GOOD._replace(optimizer="Adam 0.3 (tuned)", learning_rate=0.3)
    _, first, second, note = report.table([edge, inside]).splitlines()
    assert first.startswith("SGD, momentum .9 10* (tuned)  ")
    assert second.startswith("Adam 0.3 (tuned)  ")
    assert note == report.AT_EDGE and note.startswith("* The tuned rate is at the edge of the grid")
    assert len(report.table([inside]).splitlines()) == 2
    records = report.as_json({"task": [edge, inside]})["task"]
    assert [record["learning_rate_at_edge"] for record in records] == [True, False]
    assert records[0]["optimizer"] == "SGD, momentum .9 10 (tuned)"


def test_table_and_json_survive_divergence():
    assert report.table([GOOD, DIVERGED]).count("diverged in 2 of 2") == 2
    record = json.loads(json.dumps(report.as_json({"task": [GOOD, DIVERGED]}), allow_nan=False))
    assert record["task"][1]["final_training_loss"] == [None, None]
    assert record["task"][0]["final_training_loss"] == GOOD.final_losses.tolist()
    assert record["task"][0]["held_out"]["loss"] == [1.0, 3.0]
    assert record["task"][0]["num_steps"] == 40


def test_plot_writes_a_png_with_a_panel_for_each_task(tmp_path):
    sizes = []
    for tasks in (["one"], ["one", "two"]):
        path = tmp_path / "deeper" / f"{len(tasks)}.png"
        report.plot({task: [GOOD, DIVERGED] for task in tasks}, path)
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        sizes.append(struct.unpack(">II", content[16:24]))
    assert sizes[1][0] > 1.5 * sizes[0][0]
    assert sizes[1][1] == sizes[0][1]


def test_panels_that_are_left_over_stay_empty(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figures.append(figure))
    report.plot({f"task {i}": [GOOD] for i in range(6)}, tmp_path / "six.png")
    assert [panel.axison for panel in figures[0].axes] == [True] * 6 + [False] * 2


def test_names_are_shown_as_they_are(tmp_path, monkeypatch):
    figures = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(original(figure, *a, **k) or figure))
    names = ["_mine.safetensors", r"a$\frac$b", "a_b$"]
    results = {"task": [GOOD._replace(optimizer=name) for name in names]}
    report.plot(results, tmp_path / "curves.png")
    report.plot_profile(results, tmp_path / "profile.png")
    for figure in figures:
        (panel,) = figure.axes
        shown = [text.get_text() for text in panel.get_legend().get_texts()]
        assert [text.replace(r"\$", "$").strip() for text in shown] == names
    assert len(figures) == 2


def test_smoothing_is_a_running_mean_at_its_center():
    losses = np.arange(160.0)[None]
    curves, offset = report._smooth(losses)
    np.testing.assert_allclose(curves[0], np.arange(curves.shape[1]) + offset)


@pytest.mark.parametrize("spike", [np.nan, np.inf, 1e30])
def test_smoothing_recovers_after_a_spike(spike):
    losses = np.ones((2, 160), np.float32)
    losses[0, 50] = spike
    curves, offset = report._smooth(losses)
    near = np.abs(np.arange(curves.shape[1]) + offset - 50) < 2  # the four windows of four steps that hold the spike
    np.testing.assert_array_equal(curves[0, ~near], 1.0)
    np.testing.assert_array_equal(curves[0, near], np.float64(np.float32(spike)) / 4 if spike == 1e30 else spike)
    np.testing.assert_array_equal(curves[1], 1.0)


def test_long_names_leave_room_for_the_curves(tmp_path):
    """Such as paths: a legend that is wider than the panel would take all of it, with a warning."""
    name = "/a/long/folder" * 20 + "/theta.safetensors"
    losses = np.ones((2, 40))
    results = [Result(each, losses, {"loss": losses[:, 0]}) for each in (name, name.replace("a", "b"))]
    report.plot({"task": results}, tmp_path / "curves.png")
    assert report._label(name).endswith("folder/theta.safetensors") and len(report._label(name)) == 60
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_long_legends_leave_room_for_the_curves(tmp_path):
    """The picture grows with them. Matplotlib warns of panels without room, and warnings are errors."""
    heights = []
    for number in (2, 22):
        runs = [GOOD._replace(optimizer=f"optimizer {k} of that length (tuned, held out)") for k in range(number)]
        report.plot({"task": runs}, tmp_path / "many.png")
        heights.append(struct.unpack(">II", (tmp_path / "many.png").read_bytes()[16:24])[1])
    assert heights[1] > 1.5 * heights[0]
