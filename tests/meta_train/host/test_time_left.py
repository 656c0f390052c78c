"""When work ends that is made of pieces: none done, some skipped, all done."""

from meta_train.host.time_left import TimeLeft


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_an_estimate_needs_work_and_some_seconds():
    clock = Clock()
    left = TimeLeft(10.0, clock)
    clock.now = 100.0
    assert left.text() == ""
    left.done(1.0)
    assert left.text() == "about 15:00 left"
    clock.now = 4.0
    assert left.text() == ""


def test_what_needed_no_work_does_not_count():
    clock = Clock()
    left = TimeLeft(100.0, clock)
    left.skip(90.0)
    clock.now = 10.0
    assert left.text() == ""
    left.done(5.0)
    assert left.text() == "about 0:10 left"
    left.done(5.0)
    assert left.text() == ""
