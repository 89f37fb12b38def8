"""What learns: labels, the one trainer, what it reads, checkpoints and their hub."""
