"""``python -m pathprune`` and the console script: the command line, with our own packages whatever lies in the working folder."""

import signal

import pathprune  # noqa: F401
from harness import cli


def main() -> None:
    """Run the command line and leave; Ctrl-C while Python tidies up is no news."""
    try:
        cli.main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
