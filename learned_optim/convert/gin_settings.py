"""Settings in the text file beside weights of google/learned_optimization, such as `HyperV2.exp_mult = 0.001`.

The file is in the language of gin (https://github.com/google/gin-config). Lines that set an argument of an optimizer to
a number or a truth value are read, and nothing in the file is executed.
"""

import ast
import math
import pathlib
import re
from typing import Any
import warnings

_LINE = re.compile(r"(?:[\w./]*[./])?(\w+)\.(\w+)\s*=\s*(.+)")

# Arguments of the reference's classes that the arrays do not show, with ours.
_ARGUMENTS = {
    "HyperV2": {
        "step_mult": "step_multiplier",
        "exp_mult": "magnitude_multiplier",
        "use_bugged_loss_features": "equal_loss_averages",
        "use_bugged_next_lstm_state": "fixed_state",
    },
    "MLPLOpt": {"step_mult": "step_multiplier", "exp_mult": "magnitude_multiplier"},
    "AdafacMLPLOpt": {"step_mult": "step_multiplier", "exp_mult": "magnitude_multiplier"},
    "RNNMLPLOpt": {"step_multiplier": "step_multiplier", "magnitude_rate": "magnitude_multiplier"},
}
_FLAGS = ("equal_loss_averages", "fixed_state")
_LONGEST = 40  # characters of a number
# Those that the arrays do show, or that reach no update.
_SIZES = {
    *("param_inits", "lstm_hidden_size", "ff_hidden_size", "ff_hidden_layers", "hidden_size", "hidden_layers"),
    *("hidden_layer", "from_mlp_size", "from_lstm_size", "lstm_to_ff", "compute_summary"),
}


def beside(path: pathlib.Path) -> pathlib.Path | None:
    """The settings of a file of weights: `NAME.config.gin` for `NAME.params`, or else `config.gin` in its folder."""
    for candidate in (path.with_suffix(".config.gin"), path.with_name("config.gin")):
        if candidate.is_file():
            return candidate
    return None


def read(path: pathlib.Path, cls: str) -> dict[str, Any]:
    """Reads the settings of a class of the reference.

    Warns of settings of this class that have no counterpart here.

    Args:
      path: the text file.
      cls: name of the class, such as "HyperV2".

    Returns:
      Arguments of our constructor.

    Raises:
      ValueError: if a setting that matters is not a finite number, or True or False where these are expected, or if the
        file is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # without the mark that some editors put first
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text file with settings, got other bytes ({error}): remove it.") from error
    found, unread = {}, []
    for line in text.replace("\\\n", " ").splitlines():  # gin breaks long lines with a backslash
        match = _LINE.fullmatch(line.partition("#")[0].strip())
        if match is None or match[1] != cls or match[2] in _SIZES:
            continue
        if match[2] in _ARGUMENTS[cls]:
            argument = _ARGUMENTS[cls][match[2]]
            found[argument] = _value(path, line, match[3], argument in _FLAGS)
        else:
            unread.append(f"{match[0]!r:.100}")
    if unread:
        warnings.warn(f"{path} has settings that are not used here: {'; '.join(unread)}", stacklevel=2)
    return found


def _value(path, line, text, is_flag):
    try:
        value = ast.literal_eval(text) if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError):
        value = None
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (isinstance(value, bool) if is_flag else number):
        expected = "True or False" if is_flag else "a finite number"
        raise ValueError(
            f"{path}: expected {expected} in {line.strip()!r:.100}, got {text!r:.{_LONGEST}}: write the value there."
        )
    return value
