"""Progress: lines now and then where there is no terminal."""

import sys

from meta_train.host import progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def _lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_file_gets_a_line_each_tenth_and_not_more(capsys):
    with progress.bar(1000, unit="step") as bar:
        for i in range(1000):
            bar.set_postfix_str(f"loss {i}", refresh=False)
            bar.set_description("a task")
            bar.update()
    lines = _lines(capsys)
    assert len(lines) == 10
    assert lines[0].startswith("100 of 1,000 steps in ")
    assert lines[0].endswith(", loss 99, a task")
    assert lines[-1].startswith("1,000 of 1,000 steps in ")


def test_slow_work_gets_a_line_each_half_minute(capsys):
    clock = Clock()
    bar = progress._Lines(1, "task", 0, 0.0, clock=clock)
    for clock.now in range(0, 100):
        bar.set_description(f"second {clock.now}")
    assert _lines(capsys) == [
        f"0 of 1 task in {minutes}, second {seconds}" for minutes, seconds in (("0:30", 30), ("1:00", 60), ("1:30", 90))
    ]


def test_what_is_resumed_begins_where_it_was(capsys):
    bar = progress._Lines(100, "step", 55, 0.0, clock=Clock())
    for _ in range(10):
        bar.update()
    assert _lines(capsys) == ["60 of 100 steps in 0:00"]


def test_nothing_is_said_before_the_delay(capsys):
    clock = Clock()
    bar = progress._Lines(10, "task", 0, 2.0, clock=clock)
    for clock.now in (0.5, 1.0, 1.5, 2.5):
        bar.update()
    assert _lines(capsys) == ["4 of 10 tasks in 0:02"]


def test_work_of_unknown_length(capsys):
    clock = Clock()
    bar = progress._Lines(None, "run", 0, 0.0, clock=clock)
    bar.update(3)
    clock.now = 31.0
    bar.update()
    assert _lines(capsys) == ["4 runs in 0:31"]


def test_the_end_is_estimated_from_what_was_done_in_this_session(capsys):
    for estimate, told in ((True, ", about 1:30 left, loss 3"), (False, ", loss 3")):
        clock = Clock()
        bar = progress._Lines(100, "step", 50, 0.0, estimate, clock)
        bar.set_postfix_str("loss 3")
        clock.now = 60.0
        bar.update(20)
        clock.now = 150.0
        bar.update(30)
        assert _lines(capsys) == [f"70 of 100 steps in 1:00{told}", "100 of 100 steps in 2:30, loss 3"]


def test_what_is_written_goes_to_standard_output(capsys):
    with progress.bar(3, unit="task") as bar:
        bar.write("a table")
    assert capsys.readouterr() == ("a table\n", "")


def test_a_terminal_gets_a_bar_unless_none_is_wanted(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.over(["a", "b"], unit="task")) == ["a", "b"]
    assert "\r" in capsys.readouterr().err
    with progress.bar(2, unit="task", disable=True) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
