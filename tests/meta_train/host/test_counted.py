"""Numbers with their nouns."""

from meta_train.host.counted import counted


def test_one_is_singular_and_all_else_plural():
    assert [counted(number, "outer step") for number in (0, 1, 2)] == ["0 outer steps", "1 outer step", "2 outer steps"]
    assert counted(1_000_000, "weight") == "1,000,000 weights"
