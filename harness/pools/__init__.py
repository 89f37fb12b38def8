"""Sampled paths on disk: the bank, generated once and pruned many times."""
