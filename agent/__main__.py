"""`cellnet` and `python -m agent`: hands over to the command line. Ctrl-C ends it with 130, without a traceback."""

import _signal as signal  # type: ignore[import-not-found] # `signal` takes longer to import than all of this
import os
import sys

INTERRUPTED = 130


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)


# from our first line on: most of a short command's time is the import of others
INTERRUPTIBLE = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup's children ignore it
if INTERRUPTIBLE:
    signal.signal(signal.SIGINT, _end)


def main() -> None:
    """Run the command line and exit with its code: 0 done or yes, 1 failed or no, 2 wrong usage."""
    from agent.cli.main import run

    try:
        if INTERRUPTIBLE:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a command undoes what it began
        code = run(sys.argv[1:])
        if INTERRUPTIBLE:
            signal.signal(signal.SIGINT, _end)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
