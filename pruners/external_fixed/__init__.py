"""Signal outside the model, nothing learned."""
