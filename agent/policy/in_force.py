"""The policies in force: the union of this cell's files and the store's, and what they mean for a container."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast

from agent import log
from agent.complaint import Complaints
from agent.errors import Conflict, InvalidInput
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.outside import NOTHING_INSIDE, HostPattern, Inside
from agent.model.policy import KINDS, EgressPolicy, Policy, Protocol
from agent.model.status import Part, Problem
from agent.policy.difference import difference
from agent.policy.directory.directory import PolicyFiles, watch
from agent.policy.endings import Endings
from agent.policy.language import documents, language
from agent.policy.language.outside_ends import require_sound
from agent.policy.language.ports import merged
from agent.policy.parties import Party
from agent.policy.proposal import Proposal, Written
from agent.policy.rights.outside import MOST_ENDS, BothWays, OutsideResolver
from agent.policy.rights.resolve import MOST_RIGHTS, PolicyResolver, permitting
from agent.reader_threads import in_reader_thread
from agent.store.protocols import PolicyStore, StoredPolicy
from agent.wording import listed
from dataplane.state import Allow

LOOK_AGAIN = 0.005  # seconds
STRETCH = 500  # documents that are parsed before other tasks have their turn

Resolve = Callable[[AppName], frozenset[Allow]]
ResolveOutside = Callable[[AppName], BothWays]


@dataclass(frozen=True, slots=True)
class PoliciesRow:
    """How many policies there are from files and from the store; `ended` of them allow nothing any more, or not now.
    `bad_files` keep their last good version.
    """

    from_files: int
    from_store: int
    files: int
    bad_files: tuple[str, ...]
    ended: int = 0


class PoliciesInForce(Part):
    """One per agent. The tuple of policies is the same object as long as nothing changed."""

    def __init__(
        self, directory: Path, *, last_good: Path, store: PolicyStore, endings: Endings, inside: Inside = NOTHING_INSIDE
    ) -> None:
        self._files = PolicyFiles(directory, last_good=last_good, inside=inside)
        self._store = store
        self._inside = inside
        self._endings = endings
        self._resolver = PolicyResolver()
        self._outside = OutsideResolver()
        self._stored = StoredPolicies(inside=inside)
        self._union: tuple[tuple[Policy, ...], tuple[Policy, ...], tuple[Policy, ...]] = ((), (), ())
        self._bad_files = Complaints(log.get("policies"), failed="policy_file_bad", recovered="policy_file_mended")
        self._files.scan(time.monotonic())

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in files and store, each with its place."""
        found = map(partial(Problem, "policies"), (*map(str, self._files.problems()), *self._stored.problems))
        return (*found, *self._endings.problems(), *(Problem("policies", *each) for each in self._left_out()))

    def left_out(self) -> tuple[str, ...]:
        """What the last turn left out, since it would be too many rights."""
        return tuple(what for what, _ in self._left_out())

    def _left_out(self) -> Iterator[tuple[str, str]]:
        """The same, each with a hint."""
        hint = "name a space or an org as their source: acme/shop/* is one right, however many apps it has"
        for app, names in self._resolver.left_out().items():
            yield f"more than {MOST_RIGHTS:,} rights to reach {app}: not in force for it are {listed(names)}", hint
        hint = "name larger networks: adjacent ones are one, and so are the same ones in several policies"
        bound = f"more than {MOST_RIGHTS:,} rights or {MOST_ENDS:,} networks and names"
        for direction, way in ((self._outside.egress, "of {} to the outside"), (self._outside.ingress, "of the outside to {}")):
            for app, names in direction.left_out().items():
                yield f"{bound} {way.format(app)}: not in force for it are {listed(names)}", hint

    async def rows(self) -> Mapping[str, object]:
        """`policies`."""
        bad = sorted({each.file for each in self._files.unenforced()})
        files, stored, written = self.from_files(), await self.from_store(), await self.written()
        ended = len(written) - len(self._endings.holding(written))
        return {"policies": PoliciesRow(len(files), len(stored), files=self._files.count, bad_files=tuple(bad), ended=ended)}

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Follow the directory, and log what is wrong in it. Ends only by cancellation."""

        def changed() -> None:
            self._log_bad_files()
            on_change()

        self._log_bad_files()
        await watch(self._files, changed)

    def _log_bad_files(self) -> None:
        found = [str(each) for each in self._files.problems()]
        for each in found:
            self._bad_files.about(InvalidInput(each), key=each)
        self._bad_files.over_for_all_but(found)

    async def watch_ends(self, on_change: Callable[[], None]) -> None:
        """The same for policies that end by themselves."""
        await self._endings.run(on_change)

    async def in_force(self) -> tuple[Policy, ...]:
        """Files first, then the store's by name; without those that have ended."""
        return self._endings.holding(await self.written())

    def holding(self, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        """Without those that have ended."""
        return self._endings.holding(policies)

    async def written(self) -> tuple[Policy, ...]:
        """With those that have ended."""
        files, stored = self._files.policies(), await self.from_store()
        if self._union[0] is not files or self._union[1] is not stored:
            self._union = (files, stored, files + stored)
        return self._union[2]

    def from_files(self) -> tuple[Policy, ...]:
        """This cell's own."""
        return self._files.policies()

    async def from_store(self) -> tuple[Policy, ...]:
        """The store's. One that this version cannot read is left out and reported; the others hold."""
        return await self._stored.follow(await self._store.policies())

    async def if_changed(self, proposal: Proposal) -> tuple[tuple[Policy, ...], tuple[Policy, ...]]:
        """What is in force now, and what would be then. Raises InvalidSource for a text with mistakes, and InvalidInput."""
        held = Written(self._files.directory, self.from_files(), await self.from_store(), self._inside)
        written = await in_reader_thread(lambda: proposal.on(held))  # of a mebibyte or more, which readers may ask about
        return await self.in_force(), tuple(filter(self._endings.holds, written))

    async def resolver(self, tags: Mapping[AppName, int]) -> Resolve:
        """What the policies in force mean for a destination, given the tags of the known apps."""
        self._resolver.update(await self.in_force(), tags)
        return self._resolver.allows

    def forget_all_but(self, living: Collection[AppName]) -> None:
        """Drop what was worked out for apps that have no instance here any more."""
        self._resolver.forget(living)
        self._outside.forget(living)

    async def outside(self) -> OutsideResolver:
        """What the policies in force mean for an app towards the outside, and for the outside towards it."""
        self._outside.follow(await self.in_force())
        return self._outside

    def groups(self) -> Mapping[str, frozenset[int]]:
        """What the groups in the resolver's answers stand for."""
        return self._resolver.groups()

    async def check(self, source: Party, *, to: Party, protocol: Protocol, port: int) -> Policy | None:
        """The policy that lets `source` reach `to`, one in audit last, or None. Raises InvalidInput where no end is an app."""
        return permitting(await self.speaking(source, to), protocol=protocol, port=port)

    async def allowing(self, source: Party, to: Party, protocol: Protocol, port: int) -> tuple[Policy, ...]:
        """All that let `source` reach `to`. Raises as `check`."""
        found = await self.speaking(source, to)
        return tuple(each for each in found if any(port in ports for ports in each.ports(protocol)))

    async def ended(self, source: Party, *, to: Party, protocol: Protocol, port: int) -> tuple[Policy, ...]:
        """Those that let `source` reach `to` once, and do so no more."""
        resolver, outside = PolicyResolver(), OutsideResolver()
        ended = tuple(each for each in await self.written() if not self._endings.holds(each))
        resolver.follow(ended)
        outside.follow(ended)
        speaking = speaking_of(source, to, resolver, outside)
        return tuple(each for each in speaking if any(port in ports for ports in each.ports(protocol)))

    async def open_ports(self, source: Party, *, to: Party) -> tuple[str, ...]:
        """All that `source` may reach at `to`, as tcp/8080. Raises as `check`."""
        return open_ports(await self.speaking(source, to))

    async def egress_of(self, app: AppName) -> tuple[EgressPolicy, ...]:
        """The policies that let an app reach the outside."""
        return (await self.outside()).egress.of(app)

    async def speaking(self, source: Party, to: Party) -> tuple[Policy, ...]:
        """The policies in force that speak of both."""
        self._resolver.follow(await self.in_force())
        return speaking_of(source, to, self._resolver, await self.outside())

    async def allow(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, writer: StoreCredentials | None,
        audit: bool = False, until: datetime | None = None, note: str = "",
    ) -> str:  # fmt: skip
        """Put one into the store with the writer's rights, and return its name."""
        policy = language.allowed(source, to, ports, name=name, audit=audit, until=until, note=note)
        require_sound(policy, inside=self._inside)
        await self._store.apply_policies([_stored(policy)], writer=writer)
        return policy.name

    async def apply(self, document: str, *, writer: StoreCredentials | None) -> tuple[str, ...]:
        """Put those of a document into the store, all or none, and return their names."""
        policies = language.parse_applied(document.encode(errors="surrogateescape"), source="policies", inside=self._inside)
        await self._store.apply_policies(list(map(_stored, policies)), writer=writer)
        return tuple(each.name for each in policies)

    async def delete(self, name: str, *, writer: StoreCredentials | None) -> bool:
        """Take one out of the store; False if it is not there. Raises Conflict for one that a file holds."""
        held = {each.name for each in await self._store.policies()}
        if name in held:
            await self._store.delete_policy(name, writer=writer)
            return True
        in_file = next((each for each in self._files.policies() if each.name == name), None)
        if in_file is not None:
            raise Conflict(f"policy '{name}' stands in {in_file.origin}, not in the store", hint="edit or remove the file")
        return False

    async def accept_loss(self, *, writer: StoreCredentials | None) -> tuple[str, ...]:
        """Give up those that are held since the store lost its data."""
        return await self._store.accept_loss(writer=writer)

    def unsettled_files(self) -> tuple[str, ...]:
        """Names of files whose latest state is not believed yet."""
        return self._files.waiting()

    async def settle_files(self) -> tuple[str, ...]:
        """Read the directory as it is now, wait until what is there can be believed, and return what cannot take effect."""
        self._files.scan(time.monotonic())
        while self._files.waiting():
            await asyncio.sleep(LOOK_AGAIN)  # the watch may hear meanwhile that a writer has finished
            wakeup = self._files.next_wakeup()
            if wakeup is not None and wakeup <= time.monotonic():
                self._files.scan(time.monotonic())
        return (*(str(each) for each in self._files.unenforced()), *self._stored.problems)


def open_ports(policies: tuple[Policy, ...]) -> tuple[str, ...]:
    """All that these open, as tcp/8080."""
    found = ((each.value, merged(ports for policy in policies for ports in policy.ports(each))) for each in Protocol)
    return tuple(f"{protocol}/{ports}" for protocol, ranges in found for ports in ranges)


def speaking_of(source: Party, to: Party, apps: PolicyResolver, outside: OutsideResolver) -> tuple[Policy, ...]:
    """Of the policies that both resolvers follow those that let `source` reach `to` somehow. Raises InvalidInput."""
    match source, to:
        case AppName(), AppName():
            return tuple(apps.allowing(source, to))
        case AppName(), IPv4Address() | HostPattern():
            return outside.egress.allowing(source, to)
        case IPv4Address(), AppName():
            return outside.ingress.allowing(to, source)
        case HostPattern(), AppName():
            raise InvalidInput(f"'{source}' is not an address", hint="callers of the outside are known by addresses alone")
        case _:
            raise InvalidInput("both ends are outside", hint="one end is an app: org/space/app")


def _stored(policy: Policy) -> StoredPolicy:
    return StoredPolicy(policy.name, documents.document(policy))


class StoredPolicies:
    """The store's as they are understood: of 60,000 only those are parsed whose documents have changed. One per agent.

    One that this version cannot read is left out and reported; the others hold.
    """

    def __init__(self, *, inside: Inside = NOTHING_INSIDE) -> None:
        self._inside = inside
        self._documents: tuple[StoredPolicy, ...] = ()
        self._parsed: tuple[Policy | InvalidInput, ...] = ()  # in the order of the documents
        self.policies: tuple[Policy, ...] = ()
        self.problems: tuple[str, ...] = ()

    async def follow(self, documents: tuple[StoredPolicy, ...]) -> tuple[Policy, ...]:
        """What these mean; the same object as long as they are the same."""
        if documents is self._documents:
            return self.policies
        change, before = difference(self._documents, documents), self._parsed
        end = change.place + len(change.removed)
        known = dict(zip(change.removed, before[change.place : end], strict=True))
        added: list[Policy | InvalidInput] = []
        for number, each in enumerate(change.added, start=1):
            added.append(known[each] if each in known else self._read(each))
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        if self._documents is not documents:  # another task that wanted them may have been quicker
            self._take(documents, (*before[: change.place], *added, *before[end:]))
        return self.policies

    def _read(self, each: StoredPolicy) -> Policy | InvalidInput:
        try:
            return language.parse_stored(each.name, each.document, inside=self._inside)
        except InvalidInput as error:
            return error

    def _take(self, documents: tuple[StoredPolicy, ...], parsed: tuple[Policy | InvalidInput, ...]) -> None:
        self._documents, self._parsed = documents, parsed
        self.policies = cast("tuple[Policy, ...]", parsed)
        self.problems = ()
        if not KINDS.issuperset(map(type, parsed)):  # in C, and of all: it may be 60,000
            self.policies = tuple(each for each in parsed if isinstance(each, Policy))
            pairs = zip(documents, parsed, strict=True)
            wrong = ((each.name, found) for each, found in pairs if isinstance(found, InvalidInput))
            self.problems = tuple(f"policy '{name}' in the store: {found.what}" for name, found in wrong)
