"""Signal inside the model, learned: probes and STOP."""
