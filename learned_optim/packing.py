"""An optimizer as a folder that can be shared: weights, a card, and a manifest with the hash of the weights.

    theta.safetensors   spec and weights, see `checkpoint`
    card.md             how it was made, for people to read and to complete
    manifest.json       {"format": 1, "name": …, "sha256": …, "trained_horizon": [low, high] or null, "package": …}

`sha256` is that of the file of the weights, as `sha256sum` prints it. It finds a file that was damaged or exchanged,
not one that somebody forged together with its manifest. Nothing is unpickled, and nothing is downloaded.
"""

import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
from typing import Any
from typing import NamedTuple

import jax

from learned_optim import atomic_file
from learned_optim import cards
from learned_optim import checkpoint
from learned_optim import checks
from learned_optim import installed
from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta

FORMAT = 1
THETA, CARD, MANIFEST = "theta.safetensors", "card.md", "manifest.json"


class Manifest(NamedTuple):
    """What a folder says of its weights."""

    name: str  # of the optimizer
    sha256: str  # of the file of the weights
    trained_horizon: tuple[int, int] | None  # fewest and most steps of the runs it was trained on, if that is known
    package: str | None  # "name version" of the installed package that had its architecture; None: the library itself


def pack(
    source: tuple[LearnedOptimizer, Theta] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    card: str | os.PathLike[str] | None = None,
    name: str | None = None,
    horizon: tuple[int, int] | None = None,
) -> pathlib.Path:
    """Makes a folder of an optimizer that others can use, by `learned_optimizer(folder)` or in a package of yours.

    The folder appears complete or not at all. docs/sharing.md shows how to put it into a package.

    Args:
      source: `(optimizer, theta)`, or the path of a file that `save` wrote, or of a folder with a `theta.safetensors`,
        such as that of a finished run.
      folder: what to make. It must not exist, or be empty: what others may use under a name does not change.
      card: the text of the card, in Markdown, or the path of a file with it: a `pathlib.Path`, or a string that ends in
        ".md". None writes one with what is known, for you to complete; a card may be changed later.
      name: what to call the optimizer; None takes the name of the folder.
      horizon: the fewest and the most steps of the runs that it was trained on. `learned_optimizer` warns outside of
        them. None takes the card's row `| trained horizon | LOW–HIGH steps |`, if there is one.

    Returns:
      The path of the folder.

    Raises:
      ValueError: if the folder holds something, the name has other characters than letters, digits, ".", "-" and "_",
        the horizon is not two whole numbers in order, or the optimizer cannot be saved, see `learned_optim.save`.
      FileNotFoundError: if there is no such source or card.
      OSError: if the folder cannot be written.

    Example:
      >>> import jax, tempfile, learned_optim
      >>> optimizer = learned_optim.mlp(hidden_sizes=(4,))
      >>> folder = pathlib.Path(tempfile.mkdtemp()) / "mlp-mine-v1"
      >>> path = pack((optimizer, optimizer.init(jax.random.key(0))), folder, horizon=(100, 500))
      >>> sorted(file.name for file in path.iterdir())
      ['card.md', 'manifest.json', 'theta.safetensors']
      >>> tx = learned_optim.learned_optimizer(path)
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"folder must be new or empty, got {folder}: choose another name, such as one that ends in the next "
            "version, for what others use under a name should not change."
        )
    name = _checked_name(folder.resolve().name if name is None else name)
    optimizer, theta, facts = _source(source)
    text = _card_text(card)
    horizon = _checked_horizon(horizon) or (None if text is None else cards.trained_horizon(text))
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}.tmp")
    try:
        checkpoint.save(unfinished / THETA, optimizer, theta)
        found = Manifest(name, _sha256(unfinished / THETA), horizon, _package(optimizer.spec["kind"]))
        text = cards.write(name, _rows(optimizer, theta, found) | facts) if text is None else text
        atomic_file.write(unfinished / CARD, text.encode())
        atomic_file.write(unfinished / MANIFEST, (json.dumps({"format": FORMAT, **found._asdict()}) + "\n").encode())
        if folder.exists():
            folder.rmdir()  # Windows renames to no folder that exists
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def load(folder: str | os.PathLike[str]) -> tuple[LearnedOptimizer, Theta]:
    """Returns `(optimizer, theta)` of a folder, if its weights are those of its manifest.

    A folder without a manifest, such as that of a finished run, has the checksum within the file of the weights only.

    Raises:
      FileNotFoundError: if there is no such folder, or no `theta.safetensors` in it.
      ValueError: if the manifest is damaged, the weights are others, or `learned_optim.load` refuses them.
    """
    folder = pathlib.Path(folder)
    found = manifest(folder)
    if not (folder / THETA).is_file():
        raise FileNotFoundError(f"{folder} holds no {THETA}: give a folder that learned_optim.pack made.")
    if found is not None and (actual := _sha256(folder / THETA)) != found.sha256:
        raise ValueError(
            f"{folder / THETA} is not the file that {MANIFEST} names: its sha256 is {actual}, and should be "
            f"{found.sha256}. It was damaged or exchanged: copy the folder again from where it was made."
        )
    try:
        return checkpoint.load(folder / THETA)
    except ValueError as error:
        if found is None or found.package is None:
            raise
        raise ValueError(f"{error} Its architecture is that of the package {found.package}.") from error


def manifest(folder: pathlib.Path) -> Manifest | None:
    """Returns what a folder says of its weights, or None if it has no manifest.

    Raises:
      ValueError: if the manifest is damaged or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        made_by, horizon = held["format"], held.get("trained_horizon")
        found = Manifest(held["name"], held["sha256"], _checked_horizon(horizon), held.get("package"))
        if not isinstance(found.name, str) or not isinstance(found.sha256, str):
            raise ValueError("name and sha256 must be texts")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}): copy the folder again from where it was made."
        ) from error
    if made_by != FORMAT:
        raise ValueError(f"{path} has format {made_by}, this version reads {FORMAT}: upgrade learned_optim.")
    return found


def _source(source: Any) -> tuple[LearnedOptimizer, Theta, dict[str, str]]:
    """The optimizer, its theta, and what else is known of it, for the card."""
    if isinstance(source, tuple) and not isinstance(source, LearnedOptimizer):
        if len(source) != 2:
            raise ValueError(f"source must be (optimizer, theta) or a path, got a tuple of {len(source)}.")
        return *source, {}
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"source must be (optimizer, theta) or a path, got {type(source).__name__}: an optimizer needs its theta."
        )
    path = pathlib.Path(source)
    if not path.is_dir():
        return *checkpoint.load(path), {}
    if not (path / THETA).is_file() and (path / "run.json").is_file():
        raise FileNotFoundError(
            f"{path} holds a run without {THETA}, for it has not come to its end: go on with it by the command that "
            "began it and --resume."
        )
    return *load(path), _run_facts(path)


def _run_facts(folder):
    """Rows about a run of `meta_train`, from the identity that it keeps; none if there is none that can be read."""
    try:
        held = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        tasks, seed = held["tasks"], held["seed"]
        return {"tasks": ", ".join(map(str, tasks)), "seeds": str(seed)}
    except (KeyError, OSError, TypeError, ValueError):
        return {}


def _card_text(card):
    if card is None:
        return None
    if isinstance(card, os.PathLike) or card.endswith(".md"):
        path = pathlib.Path(card)
        if not path.is_file():
            raise FileNotFoundError(f"there is no card {path}: give a file in Markdown, or the text itself.")
        return path.read_text(encoding="utf-8")
    return card


def _rows(optimizer, theta, found):
    kind, version = optimizer.spec["kind"], optimizer.spec["feature_version"]
    sizes = {key: value for key, value in optimizer.spec.items() if key not in ("kind", "feature_version")}
    rows = {
        "kind": f"{kind}, feature_version {version}" + (f", of the package {found.package}" if found.package else ""),
        "sizes": f"`{json.dumps(sizes)}`",
        "weights": f"{sum(leaf.size for leaf in jax.tree.leaves(theta)):,}",
        "sha256": found.sha256,
    }
    if found.trained_horizon is not None:
        rows["trained horizon"] = cards.horizon_row(found.trained_horizon)
    return rows | {"recipe": "not stated", "license": "not stated"}


def _package(kind):
    """The name and version of the installed package that offers an architecture; None if the library has it."""
    if kind in optimizers.KINDS:
        return None
    offered = [each for each in installed.offers(optimizers.ENTRY_POINTS) if each.name == kind]
    return f"{offered[0].package} {offered[0].version}".strip() if offered else None


def _checked_name(name):
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f'name must be of letters, digits, ".", "-" and "_", got {name!r}: pass another as name=….')
    return name


def _checked_horizon(horizon):
    if horizon is None:
        return None
    try:
        low, high = (checks.whole_number("horizon", value, 1) for value in horizon)
    except (TypeError, ValueError):
        low, high = 1, 0
    if low > high:
        raise ValueError(f"horizon must be two whole numbers, the fewest and the most steps, got {horizon!r}.")
    return low, high


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
