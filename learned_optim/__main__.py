"""Command line of the released optimizers: `python -m learned_optim {list,card}`."""

import argparse
import json
import sys

import jax

from learned_optim import nearest
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
        description="Show the optimizers that come with learned_optim.",
        epilog="To train, evaluate and compare optimizers: python -m meta_train --help",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,card}")
    commands.add_parser("list", help="names of the released optimizers, with architecture and size")
    card_parser = commands.add_parser("card", help="how an optimizer was made, what it was tested on, where it fails")
    card_parser.add_argument("name", nargs="?", default="default", help="a name from 'list' (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        print(_table())
        return 0
    names = ("default", *released.list_pretrained())
    if arguments.name not in names:
        parser.error(
            f"there is no released optimizer {arguments.name!r}. {nearest.hint(arguments.name, names)}"
            f"Choose from {', '.join(names)}."
        )
    print(released.card(arguments.name))
    return 0


def _table():
    names = released.list_pretrained()
    width = max(map(len, names))
    lines = [f"{'name':{width}} {'kind':22} {'weights':>8}  sizes"]
    for name in names:
        optimizer, theta = released.load_pretrained(name)
        sizes = {key: value for key, value in optimizer.spec.items() if key not in ("kind", "feature_version")}
        mark = "  (default)" if name == released.DEFAULT else ""
        count = sum(leaf.size for leaf in jax.tree.leaves(theta))
        lines.append(f"{name:{width}} {optimizer.spec['kind']:22} {count:8,}  {json.dumps(sizes)}{mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
