"""The embedded testbeds: synthetic tasks, each with a model of one million parameters."""
