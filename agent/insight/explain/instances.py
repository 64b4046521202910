"""Where the two ends run, what names lead to them, and whether their cells are there."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from agent.cells.tunnel_health import PeerRow
from agent.insight.explain.way import AskedWay, WayStep
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.wording import listed
from dataplane.tunnel_probe import TunnelAnswer

SILENT = {
    TunnelAnswer.NONE: (
        "does not answer",
        "UDP to overlay.port (4789) must pass between cells, both ways; overlay.port and overlay.vni are the same on all",
    ),
    TunnelAnswer.ONLY_SMALL: (
        "loses packets of full size",
        "a connection opens and then hangs: the network between carries less than its MTU says; set overlay.mtu on all cells",
    ),
}


class InstanceSteps:
    """`names` are those that an app has, whichever instance is asked for: by its instances' own routes."""

    def __init__(self, names: Callable[[AppName, Iterable[str]], tuple[str, ...]]) -> None:
        self._names = names

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """A step for each end that is an app; for the destination its names besides."""
        found = [_instances(app, instances) for app, instances in way.apps]
        if isinstance(way.to, AppName) and way.called:
            names = self._names(way.to, [route for each in way.called for route in each.routes])
            found.append(WayStep("names", None, f"{way.to} is called {listed(names)}" if names else f"{way.to} has no name"))
        return found


class CellSteps:
    """`peers` are the other cells."""

    def __init__(self, peers: Callable[[], tuple[PeerRow, ...]]) -> None:
        self._peers = peers

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """A step for each other cell that is an end of the way, or may have been one: what runs on a dead cell is not known.

        What leaves the overlay, or comes into it, needs no tunnel.
        """
        is_missing = any(not instances for _, instances in way.apps)
        concerned = (each for each in self._peers() if each.name in way.cells or (is_missing and each.alive_since is None))
        found = list(map(_cell, concerned))
        return found if way.is_between_apps else [replace(each, ok=each.ok or None) for each in found]


def _instances(app: AppName, found: tuple[Endpoint, ...]) -> WayStep:
    if not found:
        hint = "an instance of a cell that is not alive is none; see 'cellnet apps', and 'cellnet cell list'"
        return WayStep(str(app), False, f"no instance of {app} is attached on any cell", hint)
    places = listed([f"{each.name} on {each.cell} ({each.address})" for each in found])
    waiting = [each.name for each in found if not each.ready]
    if waiting:
        hint = f"no name leads to {listed(waiting)}: nothing serves its first port, or it is drained"
        return WayStep(str(app), None, f"runs as {places}", hint)
    return WayStep(str(app), True, f"runs as {places}")


def _cell(peer: PeerRow) -> WayStep:
    if peer.alive_since is None:
        hint = "its containers may still be reached; see that its agent runs"
        return WayStep(peer.name, None, f"the agent of {peer.name} is not alive: what runs there is not known", hint)
    if peer.tunnel in SILENT:
        what, hint = SILENT[peer.tunnel]
        return WayStep(peer.name, False, f"the tunnel to {peer.name} {what}", hint)
    if peer.tunnel is None:
        return WayStep(peer.name, None, f"{peer.name} is alive, and its tunnel was not asked yet")
    return WayStep(peer.name, True, f"{peer.name} is alive, and its tunnel answers")
