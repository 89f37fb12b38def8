"""Benchmarks by name, and your own problems from a file."""
