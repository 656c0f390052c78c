"""The journal: a run that was stopped reads what it measured, and only that."""

import pytest

from meta_train.adaptation.journal import Journal


def test_a_resumed_run_reads_what_was_measured_and_counts_its_time(tmp_path, monkeypatch):
    path = tmp_path / "new" / "journal.jsonl"
    journal = Journal(path, {"steps": 3}, resume=False)
    monkeypatch.setattr(journal, "seconds", lambda: 12.5)
    assert journal.recall("pace", lambda: {"width": 2}) == {"width": 2}
    assert journal.recall("sweep", lambda: [0.1, 1 / 3]) == [0.1, 1 / 3]
    again = Journal(path, {"steps": 3}, resume=True)
    assert again.recall("sweep", lambda: 1 / 0) == [0.1, 1 / 3]  # to the last bit
    assert again.knows("pace") and not again.knows("choice")
    assert again.recall("choice", lambda: 5) == 5
    assert 12.5 <= again.seconds() < 100


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, {}, resume=False).recall("a", lambda: 1)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"name": "b", "val')
    journal = Journal(path, {}, resume=True)
    assert journal.recall("a", lambda: 2) == 1 and journal.recall("b", lambda: 3) == 3
    assert Journal(path, {}, resume=True).recall("b", lambda: 4) == 3


def test_a_folder_with_work_in_it_is_not_overwritten(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, {}, resume=False).recall("pace", lambda: 1)
    journal = Journal(path, {}, resume=False)  # nothing is lost
    journal.recall("pace", lambda: 1)
    journal.recall("plan", lambda: 2)
    with pytest.raises(ValueError, match=r"holds an adaptation already: go on with it by --resume"):
        Journal(path, {}, resume=False)


def test_other_settings_are_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, {"steps": 3, "minutes": 1.0}, resume=False)
    with pytest.raises(ValueError, match=r"other settings: 1 setting \(steps\)\. Give the same ones as then"):
        Journal(path, {"steps": 4, "minutes": 1.0}, resume=True)


def test_floats_in_the_settings_are_equal_up_to_rounding(tmp_path):
    path = tmp_path / "journal.jsonl"
    settings = {"model": {"losses": [0.3, 0.0], "name": "mine"}}
    Journal(path, settings, resume=False).recall("a", lambda: 1)
    again = {"model": {"losses": [0.3 * (1 + 1e-6), 1e-9], "name": "mine"}}
    assert Journal(path, again, resume=True).recall("a", lambda: 2) == 1
    for other in ({"losses": [0.3003, 0.0], "name": "mine"}, {"losses": [0.3], "name": "mine"}, {"losses": [0.3, 0.0]}):
        with pytest.raises(ValueError, match=r"1 setting \(model\)"):
            Journal(path, {"model": other}, resume=True)
