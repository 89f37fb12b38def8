"""Grading away from the harness: what reads a model's text with code of others runs in a process without rights."""
