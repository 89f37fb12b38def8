"""A pool and one score per path become accuracy and cost: arrays only, no engine and no file."""
