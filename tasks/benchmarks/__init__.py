"""Benchmarks by name, and problems of one's own from a file."""
