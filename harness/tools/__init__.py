"""Run model-written code in a sandbox; see ``sandbox.py``, and ``docs/tools.md`` for its guarantees."""
