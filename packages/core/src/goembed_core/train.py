"""`accelerate launch -m goembed_core.train task=NAME key=value …`: one process of a training.

Run with `-m` this module is called `__main__`, so that nothing else is defined here.
"""

import sys

from goembed_core.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
