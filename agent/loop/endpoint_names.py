"""What leads to each instance of all cells: the names by which it is known, kept from turn to turn.

There may be ten thousand instances, and a turn is taken for each change of one. So an instance's names are made when it comes,
and those of an app's instances again when the app has others; what did not change is not looked at one by one.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from agent.identity.names import Names, NamesHeld, Naming, with_index, without_index
from agent.loop.number_owners import Number, NumberOwners
from agent.model.attachment import Attachment
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.status import Part, Problem
from agent.store.protocols import IndexStore
from agent.wording import printable

NAMED = 20  # instances, one by one


class Instance(NamedTuple):
    """What its names are made of. `asked` are the routes that it asked for at attach, `cell` and `name` are where it is."""

    app: AppName
    asked: tuple[str, ...]
    number: int
    cell: str
    name: str


Kind = tuple[AppName, tuple[str, ...]]


@dataclass(slots=True)
class SameNames:
    """Instances that differ in their index alone: an app's, that asked for the same routes."""

    names: Names
    members: set[IPv4Address] = field(default_factory=set)


class EndpointNames(Part):
    """`cell` is this one: what runs here is known from its attachments, before it is announced.

    A cell may write of its instances that they have others' numbers. Names with the number lead to that of its owner alone.
    """

    def __init__(self, naming: Naming, *, cell: str, claims: IndexStore) -> None:
        self._naming = naming
        self._cell = cell
        self._held = naming.held()
        self._endpoints: Mapping[IPv4Address, Endpoint] = {}
        self._here: tuple[Attachment, ...] = ()
        self._instances: dict[IPv4Address, Instance] = {}
        self._kinds: dict[Kind, SameNames] = {}
        self._names: dict[IPv4Address, Names] = {}
        self._owners = NumberOwners(claims)
        self._numbered: dict[Number, set[IPv4Address]] = {}
        self._disputed: dict[IPv4Address, str] = {}  # whose the number is
        self._all: Mapping[IPv4Address, Names] = MappingProxyType({})

    def all(self, here: tuple[Attachment, ...], endpoints: Mapping[IPv4Address, Endpoint]) -> Mapping[IPv4Address, Names]:
        """The names of the instances that are `here`, and of those of `endpoints` that are on other cells and ready.

        `endpoints` may change afterwards. The same object as long as nothing changed.
        """
        changed = self._take_held(self._naming.held())
        changed |= self._take_endpoints(endpoints)
        changed |= self._take_here(here)
        changed |= self._take_owners(self._owners.judge())
        if changed:
            self._all = MappingProxyType(self._names.copy())
        return self._all

    def problems(self) -> Iterator[Problem]:
        """Instances that have others' numbers."""
        hint = "`cellnet apps` shows both; `cellnet detach` the one that is not meant, or look at that cell"
        for address, owner in islice(self._disputed.items(), NAMED):
            its = self._instances[address]
            what = f"'{its.name}' on {its.cell} has the number {its.number} of {its.app}, which is {owner}'s"
            yield Problem("store", printable(f"{what}: no name leads to it by that"), hint)

    def app_at(self, address: IPv4Address) -> AppName | None:
        """Whose instance has an address, as of the last turn; None of another cell's that is not ready."""
        found = self._instances.get(address)
        return None if found is None else found.app

    def instances(self) -> Mapping[str, int]:
        """How many instances each name leads to, as of the last turn."""
        return Counter(name for names in self._all.values() for name in names)

    def _take_endpoints(self, now: Mapping[IPv4Address, Endpoint]) -> bool:
        current, before = _copied(now), self._endpoints
        if current == before:  # compares objects, not their fields, as long as they are the same
            return False
        self._endpoints = current
        gone, come = _without(before, current), _without(current, before)
        for some, more in ((gone, -1), (come, 1)):
            for each in some:
                self._owners.count((each.app, each.instance), cell=each.cell, more=more)
        wanted: dict[IPv4Address, Instance | None] = dict.fromkeys(each.address for each in gone if each.cell != self._cell)
        for each in come:
            if each.cell != self._cell:
                wanted[each.address] = _elsewhere(each) if each.ready else None
        changes = [self._set(address, instance) for address, instance in wanted.items()]
        return any(changes)

    def _take_here(self, here: tuple[Attachment, ...]) -> bool:
        if here == self._here:
            return False
        before, self._here, changed = self._here, here, False
        for address in {each.address for each in before} - {each.address for each in here}:
            changed |= self._set(address, None)
        for each in here:
            changed |= self._set(each.address, Instance(each.app, each.routes, each.instance, self._cell, each.name))
        return changed

    def _set(self, address: IPv4Address, instance: Instance | None) -> bool:
        """Whether that is another than before."""
        before = self._instances.get(address)
        if instance == before:
            return False
        if before is not None:
            self._leave(address, before)
        if instance is None:
            del self._instances[address]
            self._names.pop(address, None)
            return True
        kind = self._kinds.get(instance[:2])
        if kind is None:
            kind = self._kinds[instance[:2]] = SameNames(self._naming.of(*instance[:2], self._held))
        kind.members.add(address)
        self._instances[address] = instance
        self._numbered.setdefault((instance.app, instance.number), set()).add(address)
        self._owners.count((instance.app, instance.number), cell=instance.cell, more=1)
        self._name(address, kind.names)
        return True

    def _name(self, address: IPv4Address, names: Names) -> None:
        """It is not among them where DNS can carry none of its names."""
        its = self._instances[address]
        owner = self._owners.owner((its.app, its.number))
        if owner is None or owner == its.cell:
            self._disputed.pop(address, None)
            found = with_index(names, its.number)
        else:
            self._disputed[address] = owner
            found = without_index(names)
        if found:
            self._names[address] = found
        else:
            self._names.pop(address, None)

    def _leave(self, address: IPv4Address, instance: Instance) -> None:
        self._disputed.pop(address, None)
        number = (instance.app, instance.number)
        self._owners.count(number, cell=instance.cell, more=-1)
        self._numbered[number].remove(address)
        if not self._numbered[number]:
            del self._numbered[number]
        kind = self._kinds[instance[:2]]
        kind.members.remove(address)
        if not kind.members:
            del self._kinds[instance[:2]]

    def _take_owners(self, numbers: Collection[Number]) -> bool:
        """Whether any instance has other names by whose these are now."""
        concerned = [address for each in numbers for address in self._numbered.get(each, ())]
        before = [self._names.get(address) for address in concerned]
        for address in concerned:
            self._name(address, self._kinds[self._instances[address][:2]].names)
        return before != [self._names.get(address) for address in concerned]

    def _take_held(self, held: NamesHeld) -> bool:
        """Whether any instance has other names by what holds now."""
        if held.is_as(self._held):
            return False
        self._held, changed = held, False
        for (app, asked), kind in self._kinds.items():
            names = self._naming.of(app, asked, held)
            if names != kind.names:
                kind.names, changed = names, True
                for address in kind.members:
                    self._name(address, names)
        return changed


def _elsewhere(each: Endpoint) -> Instance:
    return Instance(each.app, each.routes, each.instance, each.cell, each.name)


def _without(some: Mapping[IPv4Address, Endpoint], others: Mapping[IPv4Address, Endpoint]) -> list[Endpoint]:
    """By identity: those that are as they were are the same objects, and to compare them would take longer."""
    known = frozenset(map(id, others.values()))
    return [each for each in some.values() if id(each) not in known]


def _copied(view: Mapping[IPv4Address, Endpoint]) -> Mapping[IPv4Address, Endpoint]:
    """A copy without hashing an address anew, which takes a millisecond for each thousand."""
    copy = getattr(view, "copy", None)
    found: Mapping[IPv4Address, Endpoint] = dict(view) if copy is None else copy()
    return found
