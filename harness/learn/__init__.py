"""Learned pruners: from labels to a checkpoint.

``labels`` makes and holds success labels; ``fitting`` is the one training loop; ``prefix_reader`` gives it an adapter's
states; ``training`` takes one pruner from labels to a checkpoint; ``checkpoints`` finds, checks and describes these; ``hub``
moves checkpoints and labels.
"""
