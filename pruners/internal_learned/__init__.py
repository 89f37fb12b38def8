"""Internal and learned methods (Type IV): probes of hidden states, and STOP."""
