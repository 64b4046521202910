"""What a library raises without telling of it in advance is refused like anything else: for all, or for one container."""

from collections.abc import Callable, Iterator

import iptc
import pytest

from dataplane.kernel import Kernel
from dataplane.netlink import interior
from dataplane.tables import Interior
from host.errors import HostRefused
from tests.testlib.hosts import Host, allow, make_host
from tests.testlib.netns import Netns

ERRORS = [iptc.XTablesError("no such parameter"), KeyError("IFLA_IFNAME"), ValueError("bad")]
KERNELS = OSError(17, "File exists")


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Iterator[Host]:
    made = make_host(netns, containers=2)
    yield made
    made.kernel.close()


@pytest.mark.parametrize("error", [*ERRORS, KERNELS], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("where", ["read", "apply"])
def test_a_firewall_that_raises_anything_refuses(
    host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(host.kernel._firewall), where, fails)
        with pytest.raises(HostRefused) as refused:
            host.become(host.with_workloads(host.workload(0)))
    assert str(error) in refused.value.what
    assert refused.value.hint
    assert refused.value.__cause__ is error
    host.become(host.with_workloads(host.workload(0)))
    assert not host.left_to_do(), "the kernel's thread has outlived it"


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_what_one_containers_namespace_raises_keeps_the_other_from_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bad, program = host.workload(0), interior.program

    def fails(address: object, wanted: Interior) -> None:
        if address == bad.address:
            raise error
        program(address, wanted)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(interior, "program", fails)
        outcome = host.become(host.with_workloads(bad, host.workload(1, allow(1, "8080"))))
    assert outcome.failures.keys() == {bad.address}
    assert str(error) in outcome.failures[bad.address].what
    host.become(host.state)
    assert not host.left_to_do()


def test_what_else_is_asked_of_the_kernels_thread_is_refused_the_same(host: Host) -> None:
    def fails() -> None:
        raise KeyError("ifname")

    with pytest.raises(HostRefused, match="ifname"):
        host.kernel.submit(fails).result()
    assert isinstance(host.kernel, Kernel)
