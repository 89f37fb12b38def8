"""Learned pruners: from labels to a checkpoint.

``labels`` makes and holds success labels; ``fitting`` is the one training loop; ``training`` takes one pruner from labels to
a checkpoint; ``checkpoints`` finds, checks and describes these.
"""
