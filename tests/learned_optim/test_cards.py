"""The row of a card that the library reads, and the draft of a card."""

import pytest

from learned_optim import cards


@pytest.mark.parametrize("horizon", [(1, 1), (100, 2000)])
def test_what_is_written_is_read(horizon):
    text = cards.write("mine-v1", {"kind": "mlp", "trained horizon": cards.horizon_row(horizon)})
    assert text.startswith("# mine-v1\n\n") and "\n| kind | mlp |\n" in text
    assert cards.trained_horizon(text) == horizon


@pytest.mark.parametrize("text", ["", "| trained horizon | unknown |", "trained horizon 100–200 steps"])
def test_a_card_without_the_row(text):
    assert cards.trained_horizon(text) is None
