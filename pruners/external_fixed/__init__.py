"""External and fixed methods (Type I): the signal comes from outside the model, and nothing is trained."""
