"""Any served model as an engine: token ids in, token ids and log-probabilities out. Knows no particular server."""
