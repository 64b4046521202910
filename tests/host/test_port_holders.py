"""Which process has a port, on whichever address of those that would be in another's way."""

import os
import socket
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from host.namespace import NamespaceId, NamespaceThread
from host.port_holders import holders, holders_of, is_free, is_parent_within
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

ADDRESS, OTHER, PORT = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2"), 5353


def opened(family: int, kind: int, address: str) -> socket.socket:
    made = socket.socket(family, kind)
    made.bind((address, PORT))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


@pytest.mark.parametrize(
    ("family", "kind", "address", "is_in_the_way"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, str(ADDRESS), True),
        (socket.AF_INET, socket.SOCK_DGRAM, str(ADDRESS), True),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", True),
        (socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", True),
        (socket.AF_INET6, socket.SOCK_STREAM, "::", True),
        (socket.AF_INET6, socket.SOCK_DGRAM, f"::ffff:{ADDRESS}", True),
        (socket.AF_INET, socket.SOCK_STREAM, str(OTHER), False),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::1", False),
    ],
)
def test_what_is_in_the_way_is_found_with_its_process(
    netns: Callable[[str], Netns], family: int, kind: int, address: str, is_in_the_way: bool
) -> None:
    inside = NamespaceThread(netns("host").path)
    with inside.call(lambda: opened(family, kind, address)):
        assert inside.call(lambda: is_free(ADDRESS, PORT)) is not is_in_the_way
        found = inside.call(lambda: holders(ADDRESS, PORT))
        assert [(each.pid, each.uid) for each in found] == ([(os.getpid(), os.geteuid())] if is_in_the_way else [])
    assert inside.call(lambda: is_free(ADDRESS, PORT))
    assert inside.call(lambda: holders(ADDRESS, PORT)) == ()
    inside.close()


def test_an_address_that_is_not_there_is_no_matter_of_ports(netns: Callable[[str], Netns]) -> None:
    inside = NamespaceThread(netns("host").path)
    with pytest.raises(OSError, match="assign"):
        inside.call(lambda: is_free(IPv4Address("192.0.2.1"), PORT))
    inside.close()


def test_those_of_many_sockets_are_found_in_one_look() -> None:
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    inodes = [os.fstat(each.fileno()).st_ino for each in made]
    found = holders_of([*inodes, 1])
    assert [[each.pid for each in found[inode]] for inode in inodes] == [[os.getpid()]] * 3
    assert found[1] == ()
    for each in made:
        each.close()


def test_a_parent_is_found_by_the_namespace_of_its_child(netns: Callable[[str], Netns]) -> None:
    place, other = netns("in"), netns("out")
    with subprocess.Popen(["nsenter", f"--net={place.path}", "sleep", "60"]) as child:
        eventually(lambda: is_parent_within(os.getpid(), NamespaceId.of(place.path)))
        assert not is_parent_within(os.getpid(), NamespaceId.of(other.path))
        assert not is_parent_within(child.pid, NamespaceId.of(place.path))
        child.kill()
