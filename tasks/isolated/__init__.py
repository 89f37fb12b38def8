"""Isolated grading: third-party code that reads model output runs in an unprivileged process."""
