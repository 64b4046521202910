"""A machine that boots again when it has gone down by itself, as one of metal does on a reboot: nspawn leaves that to us."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.testlib.machines.machine import Machine

LOOK_SECONDS = 0.1


@contextmanager
def restarted(machine: Machine) -> Iterator[None]:
    """While this lasts; it is up at the end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if machine.has_ended():
                machine.power_off()
                machine.boot()

    watching = threading.Thread(target=watch, name=f"restart {machine.name}")
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
