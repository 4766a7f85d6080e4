"""The 3D scenes that one image could be of (DFM §4.1)."""
