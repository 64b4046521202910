"""What policies say of a connection: which one allows it, or what nearly does."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address

from agent.errors import InvalidInput
from agent.insight.explain.way import AskedWay, WayStep
from agent.insight.names_outside import MOST, NamesOf
from agent.model.outside import HostPattern
from agent.wording import listed

Check = Callable[[Mapping[str, str]], Awaitable[Mapping[str, object]]]


class PolicySteps:
    """`check` answers as `/v1/policies/check`, `unsettled` names policy files that are not believed yet, `cut_off` says why
    this cell does not hear of the store (empty where it does), `names_of` the names that an address outside stands for, and
    `addresses` those of a name, as the resolver of this cell has answered.
    """

    def __init__(
        self,
        *,
        check: Check,
        unsettled: Callable[[], tuple[str, ...]],
        cut_off: Callable[[], str],
        names_of: NamesOf,
        addresses: Callable[[HostPattern], Collection[IPv4Address]],
    ) -> None:
        self._check = check
        self._unsettled = unsettled
        self._cut_off = cut_off
        self._names_of = names_of
        self._addresses = addresses

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """The policy, and files that may change it in a moment."""
        found = await self._about(way, str(way.to))
        if not found["allowed"] and isinstance(way.to, IPv4Address):
            for name in self._names_of(way.to)[:MOST]:
                by_name: dict[str, object] = {"allowed": False}
                with suppress(InvalidInput):  # no policy could name it, nor a question
                    by_name = await self._about(way, name)
                if by_name["allowed"]:
                    words = f"{way.to} is {name}, as the resolver of this cell answered"
                    return (_policy(by_name | {"notices": (words,)}, way),)
        if not found["allowed"] and found["ports"] and isinstance(way.to, HostPattern):
            # a policy names it for another port, so that the app is told its addresses; others may open these
            addresses = sorted(self._addresses(way.to))[:MOST]
            answers = [await self._about(way, str(each)) for each in addresses]
            if answers and all(each["allowed"] for each in answers):
                words = f"{way.to} is {listed(list(map(str, addresses)))}, as the resolver of this cell answered"
                return (_policy(answers[0] | {"notices": (words,)}, way),)
        if not found["allowed"] and way.source == way.to and len(way.called) == 1:
            what = f"{way.called[0].name} is all there is of {way.to}: what it calls of itself stays inside, without a policy"
            return (WayStep("policy", None, what),)
        return (_policy(found, way), *_not_on(found, way), *self._waiting())

    async def _about(self, way: AskedWay, to: str) -> dict[str, object]:
        return dict(await self._check({"from": str(way.source), "to": to, "port": way.service}))

    def _waiting(self) -> Iterator[WayStep]:
        if why := self._cut_off():
            what = f"this cell does not hear of the store: what was changed there since is not in force here ({why})"
            yield WayStep("policies of the store", None, what, "see 'cellnet status'")
        files = self._unsettled()
        if files:
            yield WayStep("policy files", None, f"{listed(files)} changes just now", "ask again in a second")


def _not_on(found: Mapping[str, object], way: AskedWay) -> Iterator[WayStep]:
    """Where calls to some instances pass, and to others do not."""
    cells = _texts(found["not_on"]) if found["allowed"] else ()
    if cells:
        what = f"no policy lets {way.source} reach the instances of {way.to} on {listed(cells)}"
        yield WayStep("policy", False, what, "a policy of the store holds on all cells: `cellnet policy allow`")


def _policy(found: Mapping[str, object], way: AskedWay) -> WayStep:
    if found["allowed"]:
        ends = f", until {found['until']}" if found["until"] else ""
        ends += ", in audit alone: it passes, and is recorded as what would be refused" if found["mode"] else ""
        note = f": {found['note']}" if found["note"] else ""
        hint = "; ".join(_texts(found["notices"]))
        return WayStep("policy", True, f"allowed by {found['by']} ({found['origin']}){ends}{note}", hint)
    near = list(_texts(found["notices"]))
    if ports := _texts(found["ports"]):
        near.append(f"{way.source} may reach {way.to} on {listed(ports)}")
    if isinstance(back := found["reverse"], Mapping):
        near.append(f"the other direction is allowed by {back['by']} ({back['origin']})")
    hint = "; ".join(near) or f"cellnet policy allow {way.source} {way.to} {way.service}"
    return WayStep("policy", False, f"no policy lets {way.source} reach {way.to} on {way.service}", hint)


def _texts(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, Iterable) else ()
