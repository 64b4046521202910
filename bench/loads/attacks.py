"""What root in a container can do to Envoy without end: destroy its sockets in there, or open connections to it."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

PORTS = ("15001", "15008", "61443")
EVERY = 0.1  # seconds
ATTACKS: Mapping[str, str] = {
    "nothing": "",
    "a container that destroys its listeners": f"ss -K -ltn '{' or '.join(f'sport = :{port}' for port in PORTS)}'",
    "a container that destroys its tunnels": "ss -K -tn 'sport = :15008 or dport = :15008'",
}


@contextlib.contextmanager
def attacked(pin: Path, attack: str) -> Iterator[None]:
    """By root in the namespace at `pin`, for as long as the block lasts."""
    command = ATTACKS[attack]
    if not command:
        yield
        return
    loop = f"while :; do {command}; sleep {EVERY}; done"
    argv = ["setpriv", "--pdeathsig", "KILL", "--", "nsenter", f"--net={pin}", "sh", "-c", loop]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield
        finally:
            child.kill()
