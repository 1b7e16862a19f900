"""`python sweep.py --method dogo`, or `ray job submit --working-dir . -- python sweep.py --method dogo`."""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[2 if sys.argv[1:2] == ["sweep"] else 1 :]])
