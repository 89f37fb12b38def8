"""External and learned methods (Type II): reward models and verifiers."""
