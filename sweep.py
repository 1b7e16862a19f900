"""`python sweep.py --method dogo`, or `ray job submit --working-dir . -- python sweep.py --method dogo`."""

from raydistill.cli import sweep_alone

if __name__ == "__main__":
    sweep_alone()
