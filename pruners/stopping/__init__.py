"""Stopping rules: they end sampling, and they see only the answers of finished paths."""
