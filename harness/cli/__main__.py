"""``python -m harness.cli``: the command line."""

from pathprune.__main__ import main

if __name__ == "__main__":
    main()
