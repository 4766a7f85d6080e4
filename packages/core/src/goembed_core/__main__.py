"""`python -m goembed_core` is `goembed`."""

import sys

from goembed_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
