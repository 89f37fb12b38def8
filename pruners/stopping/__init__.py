"""When to stop sampling: rules that see the answers of finished paths and nothing else."""
