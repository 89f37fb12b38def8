"""Internal and fixed methods (Type III): token confidence, hidden states and forced answers, without training."""
