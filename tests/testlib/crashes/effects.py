"""Every effect of a process, held up until this side lets it happen, so that the process can be killed before any of them.

An effect is a system call that may change something: a netlink message, a table of legacy iptables, a setting, a file, a
mount; those of the tools it starts count too. The kernel holds them up (seccomp, seccomp.py); the process knows nothing of it.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import threading
from io import RawIOBase
from typing import Final

from tests.testlib.crashes.seccomp import TRAPPED, number

SYS_PIDFD_GETFD: Final = 438  # on every architecture
RECEIVE, SEND = 0xC0502100, 0xC0182101  # ioctls of the descriptor
CALL: Final = struct.Struct("=QIIiIQ6Q")  # id, thread, flags; number, architecture, instruction, arguments
ANSWER: Final = struct.Struct("=QqiI")  # id, value, error, flags
CONTINUE = 1
NETLINK: Final = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
DUMP = 0x300
# nfnetlink's subsystems; which of their messages only ask
ASKING: Final = {1: {1, 3, 4, 5, 6, 7}, 6: {0, 1, 7, 8, 11, 12, 13, 14, 15}, 10: set(range(64)), 11: {0}}
GET, KINDS, LAST_OF_ROUTE = 2, 4, 0x100
NAMES: Final = {number(name): name for name in TRAPPED if number(name) >= 0}
PATHS: Final = {"openat": (1,), "rename": (0, 1), "unlink": (0,), "mkdir": (0,), "rmdir": (0,), "mount": (1,), "umount2": (0,)}

_libc = ctypes.CDLL(None, use_errno=True)


def descriptor_of(pid: int, there: int) -> int:
    """A duplicate of another process's descriptor."""
    process = os.pidfd_open(pid)
    try:
        found = int(_libc.syscall(SYS_PIDFD_GETFD, process, there, 0))
    finally:
        os.close(process)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"descriptor {there} of process {pid}")
    return found


class Effects:
    """Those of process `pid` and of its tools. `listener` is where the kernel asks; ours from here on."""

    def __init__(self, pid: int, listener: int) -> None:
        self.seen: list[str] = []  # since `die_before` was called last
        self.stopped_before: str | None = None
        self._pid, self._listener = pid, listener
        self._process, self._closing = os.pidfd_open(pid), os.eventfd(0)
        self._fatal: int | None = None
        self._with_tools, self._over = True, False
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="effects", daemon=True)
        self._thread.start()

    def die_before(self, fatal: int | None, *, with_tools: bool) -> None:
        """From now on: kill -9 before effect number `fatal` (the first is 1); tools are killed along with it or go on."""
        with self._lock:
            self.seen, self._fatal, self._with_tools = [], fatal, with_tools

    def await_stop(self, *, seconds: float) -> bool:
        """Whether it is killed before an effect within so many seconds."""
        return self._stopped.wait(seconds)

    def close(self) -> None:
        """Kill it, if it still lives, and answer no more calls. Not needed where process and tools come to their ends."""
        with self._lock:
            if not self._over:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
                os.eventfd_write(self._closing, 1)
        self._thread.join()

    def _serve(self) -> None:
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        waiting.register(self._closing, select.POLLIN)
        while True:
            ready = dict(waiting.poll())
            if self._closing in ready or ready[self._listener] & select.POLLHUP:
                break
            question = bytearray(CALL.size)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it was killed or interrupted meanwhile
                fcntl.ioctl(self._listener, RECEIVE, question)
                self._judge(question)
        with self._lock:
            self._over = True
            for each in (self._listener, self._process, self._closing):
                os.close(each)

    def _judge(self, question: bytearray) -> None:
        asked, thread, _, call, _, _, *arguments = CALL.unpack(question)
        effect = _effect(thread, NAMES.get(call, str(call)), arguments)
        with self._lock:
            if effect is not None and self.stopped_before is None:
                self.seen.append(effect)
                if self._fatal is not None and len(self.seen) >= self._fatal:
                    self._stop()
            stopped, with_tools = self.stopped_before is not None, self._with_tools
        if stopped and os.path.exists(f"/proc/{self._pid}/task/{thread}"):
            return  # an answer might come before its end
        if stopped and with_tools:
            os.kill(thread, signal.SIGKILL)
            return
        fcntl.ioctl(self._listener, SEND, ANSWER.pack(asked, 0, 0, CONTINUE))

    def _stop(self) -> None:
        self.stopped_before = self.seen.pop()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self._stopped.set()


def _effect(thread: int, name: str, arguments: list[int]) -> str | None:
    """A call in words; None if it changes nothing after all."""
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            if name.startswith("send"):
                return _message(memory, name, arguments)
            paths = [_text(memory, arguments[each]) for each in PATHS.get(name, ())]
            return None if paths[:1] == ["/dev/null"] else " ".join([name, *paths])
    except (OSError, struct.error):
        return name  # it has just been killed


def _message(memory: RawIOBase, name: str, arguments: list[int]) -> str | None:
    """A netlink message that is no question, by its number, or another message by its size; a sendmsg by its first part."""
    start, length = arguments[1], arguments[2]
    if name != "sendto":
        (parts,) = struct.unpack("=16xQ", _read(memory, arguments[1], 24))
        start, length = struct.unpack("=QQ", _read(memory, parts, 16))
    if length < NETLINK.size:
        return None  # a wake-up
    size, kind, flags, _, _ = NETLINK.unpack(_read(memory, start, NETLINK.size))
    if not NETLINK.size <= size <= length:
        return f"{length} bytes"
    return None if flags & DUMP == DUMP or _asks(kind) else f"netlink {kind:#x}"


def _asks(kind: int) -> bool:
    if kind < LAST_OF_ROUTE:
        return kind % KINDS == GET  # 16 is the first: new, delete, get, set
    return kind & 0xFF in ASKING.get(kind >> 8, ())


def _text(memory: RawIOBase, start: int) -> str:
    return _read(memory, start, 512).split(b"\0")[0].decode(errors="replace")


def _read(memory: RawIOBase, start: int, length: int) -> bytes:
    memory.seek(start)
    return memory.read(length) or b""
