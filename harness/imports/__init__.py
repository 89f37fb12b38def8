"""Imported paths: from files that others sampled to a pool that every verb accepts."""
