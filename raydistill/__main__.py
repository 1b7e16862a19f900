"""Command line as a module: `python -m raydistill`."""

from raydistill.cli import main

if __name__ == "__main__":
    main()
