"""Command line of the optimizers: `python -m learned_optim {list,card,pack,convert}`."""

import argparse
import json
import pathlib
import sys

import jax

from learned_optim import checkpoint
from learned_optim import convert
from learned_optim import packing
from learned_optim import released
from learned_optim import terminal


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, or 1 if the reader of the output stops early.

    Raises:
      SystemExit: with status 2 if the arguments are invalid, with 0 after --help.
    """
    return terminal.run(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="learned-optim",
        description="Show the optimizers that come with learned_optim or with installed packages, pack one of your own "
        "to share it, and convert those of other projects.",
        epilog="To train, evaluate and compare optimizers: python -m meta_train --help",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,card,pack,convert}")
    commands.add_parser("list", help="names of the optimizers, with architecture and size")
    card_parser = commands.add_parser("card", help="how an optimizer was made, what it was tested on, where it fails")
    card_parser.add_argument(
        "name",
        nargs="?",
        default="default",
        help="a name from 'list', or a folder that 'pack' made (default: %(default)s)",
    )
    pack_parser = commands.add_parser("pack", help="make a folder of an optimizer of your own, to share it")
    pack_parser.add_argument(
        "source", help="a .safetensors file, or a folder with a theta.safetensors, such as a run's"
    )
    pack_parser.add_argument("folder", help="the folder to make: weights, card, and a manifest with their hash")
    pack_parser.add_argument("--name", help="what to call the optimizer (default: the folder's name)")
    pack_parser.add_argument(
        "--card", type=pathlib.Path, metavar="FILE", help="its card, in Markdown (default: a draft)"
    )
    pack_parser.add_argument(
        "--horizon",
        nargs=2,
        type=int,
        metavar=("LOW", "HIGH"),
        help="fewest and most steps of the runs that it was trained on (default: of the card, if it says so)",
    )
    convert_parser = commands.add_parser("convert", help="make a file of this library from another project's weights")
    convert_parser.add_argument("file", help="theta.state, params, model.safetensors, or a folder with one of these")
    convert_parser.add_argument("out", help="the file to write, which ends in .safetensors")
    convert_parser.add_argument(
        "--format",
        choices=sorted(convert.FORMATS),
        metavar="FORMAT",
        help=f"what the file holds: {', '.join(convert.FORMATS)} (default: by its arrays, then by its name)",
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        print(_table())
        return 0
    if arguments.command == "convert":
        try:
            print(_convert(arguments.file, arguments.out, arguments.format))
        except (OSError, ValueError, ModuleNotFoundError) as error:
            convert_parser.error(str(error))
        return 0
    if arguments.command == "pack":
        try:
            print(_pack(arguments))
        except (OSError, ValueError) as error:
            pack_parser.error(str(error))
        return 0
    try:
        print(released.card(arguments.name))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


def _pack(arguments):
    """Makes a folder. Returns what to do next."""
    folder = packing.pack(
        arguments.source, arguments.folder, card=arguments.card, name=arguments.name, horizon=arguments.horizon
    )
    done = "" if arguments.card else f" Complete {folder / packing.CARD}."
    return f"Wrote {folder}.{done} Use it: learned_optim.learned_optimizer({json.dumps(str(folder))})"


def _convert(file, out, chosen):
    """Converts a file. Returns what it was taken for."""
    _check_writable(pathlib.Path(out))
    optimizer, theta = convert.load(file, chosen)
    taken, *others = (chosen,) if chosen else convert.formats_of(file)
    checkpoint.save(out, optimizer, theta)
    count = sum(leaf.size for leaf in jax.tree.leaves(theta))
    lines = [f"{out}: {taken}, a {optimizer.spec['kind']} with {count:,} weights"]
    if others:
        lines.append(f"Files of {' and '.join(others)} have the same arrays. If it is one of these, pass --format.")
    return "\n".join(lines)


def _check_writable(out):
    """Raises ValueError if a file should not be written: other projects' weights, say, must not be lost."""
    if out.suffix != ".safetensors":
        raise ValueError(f"the file to write must end in .safetensors, got {out}: add the ending.")
    if out.is_dir():
        raise ValueError(
            f"the file to write must not be a folder, got {out}: add a name, as in {out / 'velo.safetensors'}."
        )
    if out.exists() and out.stat().st_size and not checkpoint.is_saved(out):
        raise ValueError(
            f"the file to write must be new or one of this library, got {out}, which is something else: name another."
        )


def _table():
    names = released.list_pretrained()
    width = max(map(len, names))
    return "\n".join([f"{'name':{width}} {'kind':22} {'weights':>8}  sizes", *(_row(name, width) for name in names)])


def _row(name, width):
    """An optimizer, or what is wrong with it: that of a broken package must not hide the others."""
    try:
        optimizer, theta = released.load_pretrained(name)
    except (OSError, ValueError) as error:
        return f"{name:{width}} cannot be used: {error}"
    sizes = {key: value for key, value in optimizer.spec.items() if key not in ("kind", "feature_version")}
    mark = "  (default)" if name == released.DEFAULT else ""
    count = sum(leaf.size for leaf in jax.tree.leaves(theta))
    return f"{name:{width}} {optimizer.spec['kind']:22} {count:8,}  {json.dumps(sizes)}{mark}"


if __name__ == "__main__":
    sys.exit(main())
