"""How many trainings are made side by side."""

from meta_train import tasks
from meta_train.adaptation import calibration
from meta_train.adaptation import trainings
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.plan import Pace
from meta_train.adaptation.trainings import Trainings


def test_large_models_and_few_minutes_have_fewer_widths_to_try():
    assert calibration.widths(2_000, "cpu", 10.0) == (16, 4)
    assert calibration.widths(2_000, "cpu", 1.0) == (16,)
    assert calibration.widths(1_000_000, "cpu", 10.0) == (1, 4)
    assert calibration.widths(10_000_000, "cpu", 10.0) == (1,)
    assert calibration.widths(2_000, "gpu", 10.0) == calibration.widths(2_000, "gpu", 10.0, convolving=True) == (64, 16)
    assert calibration.widths(2_000, "cpu", 10.0, convolving=True) == (1, 4)
    assert calibration.widths(2_000, "cpu", 1.0, convolving=True) == (1,)


def test_the_fastest_width_is_taken_and_kept(monkeypatch, tmp_path):
    speeds, built, checked = {16: 3e-3, 4: 2e-3, 1: 1e-3}, [], []

    def build(task, optimizer, theta, *, width, size, num_marks):
        built.append((width, size))
        return Trainings(None, lambda: (1.5, speeds[width]), width, 2 * width)

    monkeypatch.setattr(trainings, "build", build)
    arguments = (tasks.get("quadratic"), None, None, 50)
    path = tmp_path / "journal.jsonl"
    pace, made = calibration.calibrate(*arguments, Journal(path, {}, resume=False), 10.0, check=checked.append)
    assert pace == Pace(1.5, 1e-3, 2) and made.width == 1 and checked == [made]
    assert sorted(built) == [(1, 50), (4, 50), (16, 50)]
    built.clear()
    _, made = calibration.calibrate(*arguments, Journal(None, {}, resume=False), 0.4, check=checked.append)
    assert made.width == 16 and built == [(16, 50)]  # few minutes: nothing else is tried
    monkeypatch.setattr(calibration, "_FEW_MINUTES", 0.0)
    _, made = calibration.calibrate(*arguments, Journal(None, {}, resume=False), 0.4, check=checked.append)
    assert made.width == 4  # compiling takes too much of the time to try one alone
    built.clear(), checked.clear()
    again, made = calibration.calibrate(*arguments, Journal(path, {}, resume=True), 10.0, check=checked.append)
    assert (again, made.width, built, len(checked)) == (pace, 1, [(1, 50)], 0)
