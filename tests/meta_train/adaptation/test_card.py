"""The files of an adaptation."""

import types

import pytest

from meta_train.adaptation import card


def test_the_report_is_written_last(monkeypatch, tmp_path):
    """A run that is stopped while it draws leaves no report, not even that of an earlier run, as if it were done."""

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(card.tables, "plot", stopped)
    (tmp_path / card.REPORT_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        card.write(tmp_path, None, None, {"task": "mine", "gain": True}, types.SimpleNamespace(results=[]))
    assert not list(tmp_path.iterdir())
