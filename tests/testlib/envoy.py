"""A real Envoy with our ADS, and two containers joined by a veth pair that it serves. `close` ends every process."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from dataplane.envoy.access_log_service import AccessLogService
from dataplane.envoy.ads.ads import AdsServer, EnvoyStatus
from dataplane.envoy.ads.resource import Resource, ResourceKey
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.process import admin
from dataplane.envoy.process.bootstrap import STUCK_SECONDS, EnvoySettings
from dataplane.envoy.process.command import bundled_envoy, command, opened_program
from dataplane.envoy.refusal import Refusal
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.envoy.translation import BUNDLE_KEY, Translation, of_workload
from dataplane.state import HostState, Leaf, TargetHttp, TlsListener, Workload
from tests.testlib.certificates import TODAY, identity, make_ca
from tests.testlib.netns import Netns
from tests.testlib.patience import PATIENCE

ENVOY_ID = 64001
MEMORY, CONNECTIONS = 1 << 30, 2000
WEB, API = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.3")
PORT = 61443
Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread of its own, so that tests may block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def call(self, function: Callable[[], Result]) -> Result:
        async def work() -> Result:
            return function()

        return self.run(work())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class EnvoyProcess:
    """Envoy as the agent starts it, in the network namespace `home`."""

    def __init__(
        self, home: Netns, folder: Path, *, uid: int = ENVOY_ID, workers: int = 2, drain: int = 2, stuck: int = STUCK_SECONDS,
        memory: int = MEMORY, connections: int = CONNECTIONS,
    ) -> None:  # fmt: skip
        self.folder = folder / "envoy"
        self.folder.mkdir(mode=0o700)
        os.chown(self.folder, uid, uid)
        ads, admin_socket = folder / "ads" / "ads.sock", self.folder / "admin.sock"
        self.settings = EnvoySettings(
            cell="one", ads=ads, admin=admin_socket, connections=connections, memory=memory, stuck=stuck
        )
        self.argv = command(
            self.settings, binary=opened_program(bundled_envoy()), uid=uid, gid=uid, workers=workers, drain=drain
        )
        self.log = folder / "envoy.log"
        self._home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as sink:
            self.process = self._home.start(*self.argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, close_fds=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=20)
            self.process = None

    def is_live(self) -> bool:
        try:
            return admin.server(self.settings.admin).state == "LIVE"
        except ConnectionError:
            return False


class EnvoyCell:
    """Envoy, its ADS server and a HostState that the test changes."""

    def __init__(
        self, *, workers: int = 2, stuck: int = STUCK_SECONDS, memory: int = MEMORY, connections: int = CONNECTIONS
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cnt-envoy-"))
        self.folder.chmod(0o755)
        self.home = Netns("envoy")
        self.loop = LoopThread()
        # older than any expired certificate that a test wants
        self.ca = make_ca(now=TODAY - timedelta(days=10))
        self.envoy = EnvoyProcess(self.home, self.folder, workers=workers, stuck=stuck, memory=memory, connections=connections)
        self.refusals = list[Refusal]()
        self.ads = self._server()
        self.translation = Translation()
        self.table = ResourceTable()
        overlay, subnet = IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24")
        self.state = HostState(overlay, subnet, 1450, {}, trust_bundle=self.ca.root.bundle())

    def start(self) -> None:
        self.loop.run(self.ads.start())
        self.envoy.start()

    def _server(self) -> AdsServer:
        beside = (AccessLogService(self.refusals.extend).handler(),)
        return AdsServer(self.envoy.settings.ads, gid=ENVOY_ID, beside=beside)

    def restart_ads(self) -> None:
        """As after the end of the agent: a new server with nothing remembered."""
        self.loop.run(self.ads.stop())
        self.ads = self._server()
        self.translation = Translation()
        self.publish()
        self.loop.run(self.ads.start())

    def publish(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.table = self.translation.of(self.state)
        self.loop.call(lambda: self.ads.publish(self.table))

    def publish_table(self, table: Mapping[ResourceKey, Resource]) -> None:
        self.loop.call(lambda: self.ads.publish(ResourceTable.of(table)))

    def put(self, *workloads: Workload) -> None:
        self.publish(workloads={**self.state.workloads, **{each.address: each for each in workloads}})

    def drop(self, *addresses: IPv4Address) -> None:
        self.publish(workloads={key: each for key, each in self.state.workloads.items() if key not in addresses})

    def settle(self, *addresses: IPv4Address, timeout: float = PATIENCE) -> None:
        """Wait until Envoy has what is published for these workloads."""
        versions: dict[ResourceKey, str | None] = {}
        for address in addresses:
            versions |= of_workload(self.table, address)
            if address in self.state.workloads:
                versions[BUNDLE_KEY] = self.table[BUNDLE_KEY].version
        self.settle_versions(versions, timeout=timeout)

    def settle_versions(self, versions: Mapping[ResourceKey, str | None], *, timeout: float = PATIENCE) -> None:
        self.loop.run(self.ads.settled(versions, timeout=timeout))

    def serve(self, workload: Workload) -> None:
        """What an attach does: publish, wait for Envoy's word, wait for the kernel's."""
        self.put(workload)
        self.settle(workload.address)
        await_listening(ContainerPort(workload.address, PORT, workload.pin), timeout=PATIENCE)

    def status(self) -> EnvoyStatus:
        return self.loop.call(self.ads.status)

    def leaf(self, app: str = "acme/shop/api", *, address: IPv4Address = API, names: tuple[str, ...] = ("api.test",)) -> Leaf:
        issued = self.ca.leaf(identity(app, address=str(address), names=names))
        return Leaf(issued.chain, issued.key)

    def close(self) -> None:
        self.envoy.kill()
        self.loop.run(self.ads.stop())
        self.loop.close()
        self.home.close()
        shutil.rmtree(self.folder)


class EnvoyPair:
    """Two containers on one link: `web` calls, `api` is called. Both are set up as an attach leaves them for Envoy."""

    def __init__(self) -> None:
        self.web, self.api = Netns("web"), Netns("api")
        self.web.run("sh", "-c", f"ip link add eth0 type veth peer name eth0 netns {self.api.name}")
        for netns, address in ((self.web, WEB), (self.api, API)):
            netns.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            netns.run("ip", "link", "set", "eth0", "up")
            allow_original_source(netns)

    def workload(self, leaf: Leaf, *, target_port: int = 8080, http: TargetHttp = TargetHttp.NONE) -> Workload:
        return Workload("api", API, 7, self.api.path, listeners=(TlsListener(PORT, leaf, target_port, http=http),))

    def close(self) -> None:
        self.web.close()
        self.api.close()


def allow_original_source(netns: Netns) -> None:
    """What lets the answers to a connection with a foreign source come back to Envoy."""
    netns.run("sh", "-ec", "ip rule add pref 100 fwmark 77 lookup 77; ip route add local 0.0.0.0/0 dev lo table 77")
    netns.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1", "net.ipv4.fwmark_reflect=1")
