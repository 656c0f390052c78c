"""Settings beside Google's weights."""

import pytest

from learned_optim.convert import gin_settings

TEXT = """
# settings of a run
import learned_optimization.research.general_lopt.hyper_v2
HyperV2.exp_mult = 0.01  # a comment
scope/learned_optimization.research.general_lopt.hyper_v2.HyperV2.step_mult = 1e-2
HyperV2.lstm_hidden_size = 512
HyperV2.use_bugged_next_lstm_state = True
AdafacMLPLOpt.exp_mult = 3.0
run_train.lopt = @HyperV2()
"""


def test_settings_of_a_class_become_arguments(tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(TEXT)
    expected = {"magnitude_multiplier": 0.01, "step_multiplier": 0.01, "fixed_state": True}
    assert gin_settings.read(path, "HyperV2") == expected
    assert gin_settings.read(path, "AdafacMLPLOpt") == {"magnitude_multiplier": 3.0}
    assert gin_settings.read(path, "MLPLOpt") == {}


def test_a_setting_that_is_not_used_gives_a_warning(tmp_path):
    path = tmp_path / "config.gin"
    path.write_text("HyperV2.mix_layers = False\n")
    with pytest.warns(UserWarning, match="settings that are not used here: 'HyperV2.mix_layers = False'"):
        assert gin_settings.read(path, "HyperV2") == {}


@pytest.mark.parametrize(
    "value",
    [
        "%rate",
        "@schedule()",
        "'text'",
        "__import__('os')",
        "(1,",
        "None",
        "True",
        "1e999",
        "9" * 400,
        "-" * 100_000 + "1",
    ],
)
def test_a_value_that_matters_must_be_a_number(value, tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(f"HyperV2.exp_mult = {value}\n")
    with pytest.raises(ValueError, match=r"expected a finite number in .HyperV2\.exp_mult = "):
        gin_settings.read(path, "HyperV2")


@pytest.mark.parametrize("value", ["1", "0.0", "None", "'True'"])
def test_a_flag_must_be_true_or_false(value, tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(f"HyperV2.use_bugged_next_lstm_state = {value}\n")
    with pytest.raises(ValueError, match=r"expected True or False in .HyperV2\.use_bugged_next_lstm_state = "):
        gin_settings.read(path, "HyperV2")


def test_lines_may_be_broken_and_the_file_marked(tmp_path):
    path = tmp_path / "config.gin"
    path.write_bytes(b"\xef\xbb\xbfHyperV2.exp_mult = \\\r\n    0.5\r\nHyperV2.step_mult=2\r\n")
    assert gin_settings.read(path, "HyperV2") == {"magnitude_multiplier": 0.5, "step_multiplier": 2}


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "config.gin"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="must be a text file with settings"):
        gin_settings.read(path, "HyperV2")


def test_the_settings_of_a_name_come_before_those_of_the_folder(tmp_path):
    weights = tmp_path / "mine.params"
    assert gin_settings.beside(weights) is None
    (tmp_path / "config.gin").write_text("")
    assert gin_settings.beside(weights) == tmp_path / "config.gin"
    (tmp_path / "mine.config.gin").write_text("")
    assert gin_settings.beside(weights) == tmp_path / "mine.config.gin"
