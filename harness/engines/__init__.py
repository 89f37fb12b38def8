"""Engines: what samples the paths. Each module is loaded only when its engine is asked for."""
