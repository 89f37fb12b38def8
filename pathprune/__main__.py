"""``python -m pathprune`` and the console script: the command line, with our own packages whatever lies in the working folder."""

import pathprune  # noqa: F401
from harness.cli import main

if __name__ == "__main__":
    main()
