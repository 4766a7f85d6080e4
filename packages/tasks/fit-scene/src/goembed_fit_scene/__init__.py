"""A radiance field of one posed scene."""
