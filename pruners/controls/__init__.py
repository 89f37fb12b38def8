"""Controls: what every comparison needs, and surface features that a real signal has to beat."""
