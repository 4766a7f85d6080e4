"""Gradient origin networks (Bond-Taylor and Willcocks 2021) beside auto-encoders of twice the parameters."""
