"""Signal inside the model, nothing learned: token confidence."""
