"""Tasks: problems, canonical answers and grading."""
