"""Code that a model writes, run in a sandbox: see ``sandbox.py``, and ``docs/tools.md`` for what it holds."""
