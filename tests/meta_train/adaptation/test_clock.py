"""The progress bar over all phases."""

from meta_train.adaptation import clock


class Bar:
    """Keeps what it is told, in order."""

    def __init__(self):
        self.told = []

    def update(self, n=1):
        self.told.append(n)

    def set_postfix_str(self, text, refresh=True):
        self.told.append((text, refresh))


def test_it_counts_seconds_up_to_the_total_and_tells_what_is_done_before_it_counts():
    now, bar = [40.7], Bar()  # an earlier session took some of them, which the bar counts from the beginning
    timer = clock.Clock(lambda: now[0], 60.0, bar)
    timer.tell("sweep")
    now[0] = 59.2
    timer.tell("choice")
    assert round(timer.left(), 3) == 0.8
    now[0] = 75.0
    timer.tell("verdict")
    assert bar.told == [("sweep", False), 0, ("choice", False), 19, ("verdict", False), 1]
