"""Every path of a cell in one place. Those below `state` and `run` follow these two unless they are given themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from agent.config.texts import path
from agent.config.values import Key, parsed

READ = parsed(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Absolute paths, the root prefix included."""

    state: Annotated[Path, Key(READ, "what survives a reboot")] = Path("/var/lib/cellnet")
    run: Annotated[Path, Key(READ, "what is gone after a reboot: sockets, pins, keys")] = Path("/run/cellnet")
    database: Annotated[Path, Key(READ, "the cell's SQLite file", "<state>/cellnet.db")]
    ca: Annotated[Path, Key(READ, "root and cell certificates with their keys", "<state>/ca")]
    last_good: Annotated[Path, Key(READ, "the last good version of each policy file", "<state>/policies")]
    control_socket: Annotated[Path, Key(READ, "the control API", "<run>/agent.sock")]
    xds_socket: Annotated[Path, Key(READ, "where Envoy asks the agent for its resources", "<run>/envoy/xds.sock")]
    envoy_admin: Annotated[Path, Key(READ, "Envoy's admin socket", "<run>/envoy/admin/admin.sock")]
    dns: Annotated[Path, Key(READ, "the names of all instances, and the name servers of the outside", "<run>/dns")]
    host_resolv_conf: Annotated[Path, Key(READ, "the host's name servers, for `dns.upstreams: auto`")] = Path(
        "/etc/resolv.conf"
    )
    netns: Annotated[Path, Key(READ, "pinned namespaces", "<run>/netns")]
    environments: Annotated[Path, Key(READ, "each container's environment, as KEY=VALUE lines", "<run>/env")]
    resolv_confs: Annotated[Path, Key(READ, "each container's resolv.conf", "<run>/resolv")]
    identity: Annotated[Path, Key(READ, "certificates and keys of the instances, on tmpfs", "<run>/identity")]

    @property
    def names(self) -> Path:
        """The folder that dnsmasq has its names from."""
        return self.dns / "names"

    @property
    def upstreams(self) -> Path:
        """The name servers of the outside, as dnsmasq reads them."""
        return self.dns / "upstreams"

    @property
    def hop_socket(self) -> Path:
        """Where what asks the outside for names asks the agent."""
        return self.dns / "hop.sock"

    @property
    def hop_wanted(self) -> Path:
        """There while a policy of a container here names a host."""
        return self.dns / "hop.wanted"

    @property
    def known_names(self) -> Path:
        """Which addresses names outside stand for, over restarts of the agent."""
        return self.run / "known-names"

    @property
    def latest_time(self) -> Path:
        """The latest that it has been, for policies that end."""
        return self.state / "latest-time"

    @property
    def events(self) -> Path:
        """What the agent did and saw, for `cellnet events`."""
        return self.state / "events" / "events.jsonl"

    @property
    def policy_use(self) -> Path:
        """When flows have used each policy last, for `cellnet policy list --unused`."""
        return self.state / "events" / "policy-use.json"

    @property
    def host_before(self) -> Path:
        """What the host was before cellnet."""
        return self.run / "host-before"

    @property
    def sockets(self) -> tuple[Path, ...]:
        """The paths that the kernel keeps short."""
        return (self.control_socket, self.xds_socket, self.envoy_admin, self.hop_socket)


def derived(written: Mapping[str, Path]) -> Paths:
    """All paths, from those that were written (by field name) and the defaults for the others."""
    state = written.get("state", Path("/var/lib/cellnet"))
    run = written.get("run", Path("/run/cellnet"))
    return replace(
        Paths(
            state=state,
            run=run,
            database=state / "cellnet.db",
            ca=state / "ca",
            last_good=state / "policies",
            control_socket=run / "agent.sock",
            xds_socket=run / "envoy/xds.sock",
            envoy_admin=run / "envoy/admin/admin.sock",
            dns=run / "dns",
            netns=run / "netns",
            environments=run / "env",
            resolv_confs=run / "resolv",
            identity=run / "identity",
        ),
        **written,
    )


def below(root: Path | None, path: Path) -> Path:
    """`path` as seen by an agent that was started with `--root`."""
    return path if root is None else root / path.relative_to("/")


def all_below(root: Path | None, paths: Paths) -> Paths:
    """Every path with the root's prefix."""
    return replace(paths, **{each.name: below(root, getattr(paths, each.name)) for each in fields(paths)})
