"""`cellnet` and `python -m agent`: hands over to the command line."""

import sys


def main() -> None:
    """Run the command line and exit with its code: 0 done or yes, 1 failed or no, 2 wrong usage."""
    from agent.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
