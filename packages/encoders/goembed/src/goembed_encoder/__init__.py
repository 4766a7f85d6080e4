"""Gradient-origin embeddings: the encoder is minus the gradient of the forward model's error at the origin."""
