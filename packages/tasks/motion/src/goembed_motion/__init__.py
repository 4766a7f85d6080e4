"""The motions that could follow a single image (DFM §4.2)."""
