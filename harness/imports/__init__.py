"""Paths that others sampled: from their files to a pool that every verb takes."""
