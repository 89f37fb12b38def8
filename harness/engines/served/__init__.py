"""Served models as engines: token ids in, token ids and log-probabilities out, independent of the server."""
