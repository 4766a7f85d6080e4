"""Pixel-aligned features of views, the radiance fields made of them, and a denoiser whose signals are such fields."""
