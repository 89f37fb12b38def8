"""Replay: compute accuracy and cost from a pool and one score per path. Works on arrays only, without engines or files."""
