"""Diffusion transformer (Peebles & Xie 2023) with heads for pixels, vectors and planes."""
