"""What passes on a cell's cable, as whoever sits between the cells sees it."""

import socket
import threading
from types import TracebackType

from host import namespace
from lab.cell import Cell

ETH_P_ALL = 3
LARGEST = 1 << 16
POLL_SECONDS = 0.1


class Wire:
    """Every frame to and from a cell, for as long as the block lasts; `text` is all of them, one after the other."""

    def __init__(self, cell: Cell) -> None:
        kind = socket.SOCK_RAW
        self._socket = namespace.run_in(cell.outside, lambda: socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL)))
        self._socket.bind((cell.uplink, ETH_P_ALL))
        self._socket.settimeout(POLL_SECONDS)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="wire", daemon=True)
        self.frames: list[bytes] = []

    def _read(self) -> None:
        while True:
            try:
                self.frames.append(self._socket.recv(LARGEST))
            except TimeoutError:
                if self._done.is_set():
                    return

    def carrying(self, words: bytes) -> int:
        """How many frames have these words in plain text."""
        return sum(words in each for each in self.frames)

    def __enter__(self) -> "Wire":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()
