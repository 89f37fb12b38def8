"""Learned pruners: from labels to a checkpoint.

``labels`` creates and stores success labels; ``fitting`` is the shared training loop; ``training`` trains one pruner and
writes its checkpoint; ``checkpoints`` finds, validates and describes checkpoints.
"""
