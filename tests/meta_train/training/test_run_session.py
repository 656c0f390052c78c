"""How far a run is to go: what is written, and files that cannot be read."""

import time

import pytest

from meta_train.training import run_session


def test_the_last_session_is_the_one_that_is_read(tmp_path):
    before = time.time()
    for num_steps, first_step in ((10, 0), (20, 10)):
        run_session.write(tmp_path, num_steps=num_steps, first_step=first_step)
    found = run_session.read(tmp_path)
    assert (found.num_steps, found.first_step) == (20, 10)
    assert before <= found.began <= time.time()
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"num_steps": 0, "first_step": 0, "began": 0}', '{"num_steps": "a"}', "[" * 100_000]
)
def test_what_cannot_be_read_says_nothing(tmp_path, text):
    assert run_session.read(tmp_path) is None
    (tmp_path / "session.json").write_text(text)
    assert run_session.read(tmp_path) is None
