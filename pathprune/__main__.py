"""``python -m pathprune`` and the console script: the command line, protected against modules in the working folder."""

import signal
import sys

import pathprune  # noqa: F401
from harness import cli


def main() -> None:
    """Run the command line and exit; Ctrl-C during Python's own shutdown is ignored."""
    sys.modules[
        "__main__"
    ].__spec__ = None  # by its path, processes that are spawned import this file; by its name they do not
    try:
        cli.main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
