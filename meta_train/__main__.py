"""The command line: `python -m meta_train {demo,train,watch,runs,evaluate,…}`. Its commands are in `cli/`."""

import os
import sys
from typing import NoReturn

from learned_optim import terminal
from meta_train.host import extra

INTERRUPTED = 130  # the exit status after Ctrl-C


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs one command and exits.

    The status is 0, 1 after an error that should not be, or if nobody reads the output to its end, 2 for bad arguments,
    130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    packages = extra.missing()
    if packages:  # before anything is imported that needs them
        print(f"meta-train: {extra.advice(packages)}", file=sys.stderr)
        sys.exit(2)
    from meta_train import cli
    from meta_train.host import parallel

    status = terminal.run(lambda: cli.run(argv))
    if status == INTERRUPTED:
        _end_at_once(status)
    parallel.leave(status)


def _end_at_once(status):
    """Ends the process without Python's own end, which crashes where compiled code is still at work."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
