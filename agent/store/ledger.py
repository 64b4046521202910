"""The cell's own attachments: always in its SQLite file, whatever the store, and read first at every start.

An attachment is written before anything is done for it and deleted after everything is undone, so that a crash at any point
leaves a row that names what to clean up. The calls are synchronous: each is one local transaction, without a sync to the disk,
as no row outlives a boot (agent/store/database.py explains why that is safe).

What cannot be read any more (damage, a disk that fails) is answered from what was read last: the cell goes on as it is.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TypeAlias
from uuid import uuid4

from agent.errors import Bug, Conflict, HostRefused
from agent.model.attachment import Attachment, AttachRequest, Phase
from agent.model.drain import DrainOrder
from agent.model.names import AppName
from agent.model.owner import Owner
from agent.model.place import Place
from agent.model.publication import Publication, refuse_published
from agent.model.reservation import Reservation
from agent.store import addresses, last_leaves
from agent.store.database import NEVER, Database
from agent.store.last_leaves import ClockBounds, LastLeaf
from agent.store.refusals import index_taken
from agent.store.reservations import Reservations
from agent.store.rows import INSERT, from_row, to_row
from agent.store.sqlite_errors import damaged

Row: TypeAlias = tuple[str | int | None, ...]


class Ledger:
    """A write raises HostRefused when the file cannot be written, and has then changed nothing. `new_guid` makes up a UUID."""

    def __init__(self, database: Database, *, new_guid: Callable[[], str] = lambda: str(uuid4())) -> None:
        self.reservations = Reservations(database)
        self._database = database
        self._new_guid = new_guid
        self._version = NEVER  # of what other processes have written
        self._touched: set[str] = set()  # names of which this one may have written something since they were read
        self._all: tuple[Attachment, ...] = ()
        self._decoded: dict[str, tuple[Row, Attachment]] = {}
        self._unwritten: dict[IPv4Address, LastLeaf] = {}

    def all(self) -> tuple[Attachment, ...]:
        """By name, in every phase. The same objects for what did not change. Raises HostRefused if it was never read."""
        with self._database.kept("ledger", was_read=self._version != NEVER):
            self._reread()
        return self._all

    def _reread(self) -> None:
        """What may have changed. To read hundreds of rows after each write, of tags too, takes longer than the write itself."""
        version = self._database.foreign_version()
        if version != self._version:
            rows = self._database.read("SELECT * FROM attachments ORDER BY name")
            found = {str(row["name"]): self._known_or_decoded(row) for row in rows}
        elif self._touched:
            found = self._with_touched()
        else:
            return
        self._decoded, self._version, self._touched = found, version, set()
        self._all = tuple(attachment for _, attachment in found.values())

    def _with_touched(self) -> dict[str, tuple[Row, Attachment]]:
        found = {name: each for name, each in self._decoded.items() if name not in self._touched}
        for name in self._touched:
            for row in self._database.read("SELECT * FROM attachments WHERE name = ?", name):
                found[name] = self._known_or_decoded(row)
        return dict(sorted(found.items()))

    def _known_or_decoded(self, row: sqlite3.Row) -> tuple[Row, Attachment]:
        known, values = self._decoded.get(row["name"]), tuple(row)
        return known if known is not None and known[0] == values else (values, self._decode(row))

    def get(self, name: str) -> Attachment | None:
        """The attachment of that name, in any phase."""
        return next((held for held in self.all() if held.name == name), None)

    def _in_transaction(self, name: str) -> Attachment | None:
        rows = self._database.read("SELECT * FROM attachments WHERE name = ?", name)
        return self._decode(rows[0]) if rows else None

    def begin(self, request: AttachRequest, *, owner: Owner, proving: ClockBounds | None = None) -> Attachment:
        """Write an attachment in phase ATTACHING, with its address and instance. `proving`: see addresses.take.

        One for whose name and app a place is reserved has that. Raises Conflict where the name or the instance is taken, or no
        address is left.
        """
        subnet = self.subnet()
        if subnet is None:
            raise Bug("an attachment was begun before the cell had its subnet")
        place = self._reserved_place(request.name, request.app, subnet=subnet)
        self._touched.add(request.name)
        with self._database.transaction(durable=False) as connection:
            self.refuse_taken(request)
            if proving is not None:
                self._write_leaves(connection, now=proving)
            attachment = Attachment(
                name=request.name,
                app=request.app,
                instance=self._instance(request),
                address=place.address
                if place
                else self._address(connection, request.app, subnet=subnet, proving=proving, wanted=request.address),
                interface=request.interface,
                ports=request.ports,
                routes=request.routes,
                tls_target=request.target(),
                tls_http=request.tls_http,
                owner=owner,
                phase=Phase.ATTACHING,
                guid=place.guid if place else self._new_guid(),
                key_owner=request.key_owner,
                services=request.services,
                netns_name=request.netns_name,
                limits=request.limits,
                publish=request.publish,
            )
            connection.execute(INSERT, to_row(attachment))
        if proving is not None:
            self._unwritten.clear()
        return attachment

    def _address(
        self,
        connection: sqlite3.Connection,
        app: AppName,
        *,
        subnet: IPv4Network,
        proving: ClockBounds | None,
        wanted: IPv4Address | None = None,
    ) -> IPv4Address:
        return addresses.take(connection, subnet=subnet, app=str(app), proving=proving, wanted=wanted)

    def _reserved_place(self, name: str, app: AppName, *, subnet: IPv4Network) -> Place | None:
        """None where the address lies in a subnet that the cell has had before."""
        found = self.reservations.get(name)
        if found is None or found.app != app or found.place is None or found.place.address not in subnet:
            return None
        return found.place

    def reserve(self, asked: Reservation, *, instance: int, now: float, proving: ClockBounds | None = None) -> Reservation:
        """Keep a place for a name: the one that its app has there already, reserved or attached, else a new one.

        On the disk when it returns. Raises Conflict where no address is left.
        """
        subnet = self.subnet()
        if subnet is None:
            raise Bug("a place was reserved before the cell had its subnet")
        before, known = self.reservations.get(asked.name), self._reserved_place(asked.name, asked.app, subnet=subnet)
        with self._database.transaction(durable=True) as connection:
            held = self._in_transaction(asked.name)
            if held is not None and held.app == asked.app:
                known = Place(held.address, held.instance, held.guid)
            if proving is not None:
                self._write_leaves(connection, now=proving)
            address = known.address if known else self._address(connection, asked.app, subnet=subnet, proving=proving)
            made = replace(asked, place=Place(address, instance, known.guid if known else self._new_guid()))
            self.reservations.put(connection, made)
            if before is not None and before.place is not None and before.place.address != address:
                addresses.give_back(connection, before.place.address, now=now)
        self.reservations.forget()
        return made

    def release(self, name: str, *, now: float) -> Reservation | None:
        """End a reservation; its place is free once nothing is attached there. The one that it was."""
        found = self.reservations.get(name)
        if found is not None:
            with self._database.transaction(durable=True) as connection:
                self.reservations.drop(connection, name)
                if found.place is not None:
                    addresses.give_back(connection, found.place.address, now=now)
            self.reservations.forget()
        return found

    def remember_leaf(self, address: IPv4Address, leaf: LastLeaf, *, now: ClockBounds) -> None:
        """To be called for each certificate that names `address`, before any program has its key.

        Never fails: certificates must be renewed on a full disk, too. What cannot be written is written with the next one, or
        with the next attachment, before that gets its address.
        """
        with suppress(HostRefused):
            known = self.last_leaf(address)
            if known is not None and known.app == leaf.app and known.issued >= leaf.issued and known.ends >= leaf.ends:
                return  # a start must not need a disk with room
        self._unwritten[address] = leaf.after(self._unwritten.get(address))
        with suppress(HostRefused):
            with self._database.transaction(durable=False) as connection:
                self._write_leaves(connection, now=now)
            self._unwritten.clear()

    def last_leaf(self, address: IPv4Address) -> LastLeaf | None:
        """The last certificate that named an address, None if there was none."""
        rows = self._database.read("SELECT app, issued, ends FROM last_leaves WHERE address = ?", int(address))
        return LastLeaf(*rows[0]) if rows else None

    def _write_leaves(self, connection: sqlite3.Connection, *, now: ClockBounds) -> None:
        last_leaves.judge(connection, now)
        for address, leaf in self._unwritten.items():
            last_leaves.write(connection, address, leaf.after(self.last_leaf(address)))

    def complete(self, name: str) -> Attachment:
        """ATTACHING -> ATTACHED. Raises Conflict where it was detached meanwhile. Again is fine."""
        self._touched.add(name)
        with self._database.transaction(durable=False) as connection:
            held = self._in_transaction(name)
            if held is None or held.phase is Phase.DETACHING:
                raise Conflict(f"'{name}' was detached while it was being attached", hint="attach it again")
            return self._enter(connection, held, Phase.ATTACHED)

    def begin_detach(self, name: str) -> Attachment | None:
        """Any phase -> DETACHING; None when there is nothing of that name, which is fine."""
        self._touched.add(name)
        with self._database.transaction(durable=False) as connection:
            held = self._in_transaction(name)
            return None if held is None else self._enter(connection, held, Phase.DETACHING)

    def finish_detach(self, name: str, *, now: float) -> None:
        """Delete it and free its address and instance, once nothing of it is left on the host. Again is fine."""
        self._touched.add(name)
        with self._database.transaction(durable=False) as connection:
            held = self._in_transaction(name)
            if held is None:
                return
            if held.phase is not Phase.DETACHING:
                raise Bug(f"the detach of '{name}' was ended before it was begun")
            connection.execute("DELETE FROM attachments WHERE name = ?", (name,))
            addresses.give_back(connection, held.address, now=now)

    def subnet(self) -> IPv4Network | None:
        """The one addresses are taken from; None before the first `adopt_subnet`."""
        found = self._meta("subnet")
        return None if found is None else IPv4Network(found)

    def adopt_subnet(self, subnet: IPv4Network) -> None:
        """Take addresses from `subnet` from now on. Raises Conflict while attachments have others."""
        strays = [held for held in self.all() if held.address not in subnet]
        if strays:
            raise Conflict(
                f"{len(strays)} attachments have addresses outside of {subnet}, e.g. '{strays[0].name}' {strays[0].address}",
                hint="set overlay.network and overlay.cell_prefix back, or detach them first",
            )
        if self.subnet() != subnet:  # a start must not need a disk with room
            self._set_meta("subnet", str(subnet))

    def cell_id(self, *, fresh: str) -> str:
        """The cell's lasting id (the host's name may change): `fresh` if it has none yet."""
        held = self._meta("cell_id")
        if held is not None:
            return held
        with self._database.transaction(durable=True) as connection:
            connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('cell_id', ?)", (fresh,))
        return self._meta("cell_id") or fresh

    def tunnel_stage(self) -> str | None:
        """How far this cell has come to mutual TLS, as it was set last (agent/cells/tunnel_mode.py); None before that."""
        return self._meta("tunnel_stage")

    def set_tunnel_stage(self, stage: str) -> None:
        """Keep it for the next agent. A power loss takes it along, and the containers too."""
        self._set_meta("tunnel_stage", stage)

    def drain_order(self) -> DrainOrder:
        """What an operator wants to go before maintenance (agent/attach/drain.py)."""
        held = self._meta("drain")
        try:
            return DrainOrder() if held is None else DrainOrder.parse(held)
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(self._database.path, "what is to be drained makes no sense") from error

    def set_drain_order(self, order: DrainOrder) -> None:
        """Keep it for the next agent, after a reboot and a power loss too."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('drain', ?)", (order.text(),))

    def refuse_taken(self, request: AttachRequest) -> None:
        """Raises Conflict where the name, the instance's number or a published port is another attachment's of this cell."""
        held = self._in_transaction(request.name)
        if held is not None:
            raise Conflict(
                f"the name '{held.name}' is taken by {held.app} (instance {held.instance}, {held.address}, {held.phase.value})",
                hint=f"choose another name, or `cellnet detach {held.name}` first",
                taken=held.name,
            )

        for name, theirs in self._published():
            refuse_published(request.publish, theirs, by=name)
        here = self._instances(request.app) if request.instance is not None else {}
        if request.instance is not None and request.instance in here:
            raise index_taken(request.app, request.instance, by=f"'{here[request.instance]}'")

    def numbers(self, app: AppName, *, but: str) -> set[int]:
        """Those of the app's instances here and of what is reserved for it, except for what is called `but`."""
        reserved = (each for each in self.reservations.all().values() if each.app == app and each.name != but)
        return {held.instance for held in self.all() if held.app == app} | {
            each.place.instance for each in reserved if each.place is not None
        }

    def _instance(self, request: AttachRequest) -> int:
        """Its own, or the lowest that is free here."""
        if request.instance is not None:
            return request.instance
        held = self._instances(request.app)
        return next(number for number in range(len(held) + 1) if number not in held)

    def _instances(self, app: AppName) -> dict[int, str]:
        rows = self._database.read("SELECT instance, name FROM attachments WHERE app = ?", str(app))
        return {row["instance"]: row["name"] for row in rows}

    def _published(self) -> Iterator[tuple[str, tuple[Publication, ...]]]:
        """By name of the attachment, in any phase: a port is free once nothing leads to it any more."""
        for row in self._database.read("SELECT * FROM attachments WHERE publish != '[]' ORDER BY name"):
            held = self._decode(row)
            yield held.name, held.publish

    def _enter(self, connection: sqlite3.Connection, held: Attachment, phase: Phase) -> Attachment:
        connection.execute("UPDATE attachments SET phase = ? WHERE name = ?", (phase.value, held.name))
        return replace(held, phase=phase)

    def _meta(self, key: str) -> str | None:
        rows = self._database.read("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0]["value"]) if rows else None

    def _set_meta(self, key: str, value: str) -> None:
        with self._database.transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def _decode(self, row: sqlite3.Row) -> Attachment:
        try:
            return from_row(row)
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(self._database.path, f"the entry of '{row['name']}' makes no sense") from error
