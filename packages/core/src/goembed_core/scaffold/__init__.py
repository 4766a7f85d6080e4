"""`goembed new`: a working package for a plugin, from templates; free of torch."""

from goembed_core.scaffold.write import KINDS, Created, new_package

__all__ = ["KINDS", "Created", "new_package"]
