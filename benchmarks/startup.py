"""Time of the commands that compute nothing, at most half a second each: `python benchmarks/startup.py [repeats]`."""

import subprocess
import sys
import time

COMMANDS = (["plugins"], ["train", "task=gan_inversion", "--help"], ["train", "task=gan_inversion", "train.imges=1"])


def seconds(words: list[str]) -> float:
    """Wall-clock time of one command in a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "goembed_core", *words], capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the best of several, which is the one least disturbed by other processes."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for words in COMMANDS:
        best = min(seconds(words) for _ in range(repeats))
        print(f"{best:6.2f} s  goembed {' '.join(words)}")


if __name__ == "__main__":
    main()
