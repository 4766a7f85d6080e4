"""`task=plenoptic_encoding`."""
