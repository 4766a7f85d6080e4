"""Samplers against exact posteriors."""
