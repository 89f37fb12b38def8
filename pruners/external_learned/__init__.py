"""Signal outside the model, learned: reward models and verifiers."""
