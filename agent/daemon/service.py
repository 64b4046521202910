"""What the control API asks of the agent, answered by the real parts. Converts; decides nothing."""

import asyncio
import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from agent.attach.transaction import AttachTransactions
from agent.cells.tunnel_health import TunnelHealth, vtep
from agent.config.config import Config
from agent.control.service import (
    AttachmentView,
    CaView,
    CellRow,
    CellView,
    EnvoyView,
    FirewallView,
    LastApply,
    Peer,
    PeerView,
    PoliciesView,
    Status,
    TlsState,
    TlsView,
    Verdict,
)
from agent.daemon.clock import Clock
from agent.daemon.peering import Peering
from agent.daemon.storing import Storing
from agent.envoy.listeners import Listeners
from agent.errors import RAISED, HostRefused, InvalidInput, Unavailable
from agent.identity.ca_errors import refusals_told
from agent.identity.leaves import Leaves
from agent.identity.trust import added, checked
from agent.loop.desired import CellFacts, pin_of
from agent.loop.loop import Reconciler
from agent.metrics import Levels, Metrics
from agent.model.attachment import Attachment, AttachRequest, Phase
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from agent.model.status import Part, problems_of
from agent.policy.in_force import PoliciesInForce
from ca.show import Shown, Summary, show, summaries
from dataplane.envoy import admin
from dataplane.envoy.ads import AdsServer
from dataplane.envoy.resources import listener_key

DOUBT = 0.1  # seconds between two looks whether what is asked for is in force
STORE_SECONDS = 2.0  # that a sync waits for a store of many cells to answer


class Service:
    """See agent/control/service.py for what each call means."""

    def __init__(
        self,
        *,
        config: Config,
        facts: CellFacts,
        leaves: Leaves,
        policies: PoliciesInForce,
        reconciler: Reconciler,
        listeners: Listeners,
        attaching: AttachTransactions,
        metrics: Metrics,
        ads: AdsServer,
        clock: Clock,
        storage: Storing,
        others: Peering,
        tunnels: TunnelHealth,
        parts: tuple[Part, ...],
        backend: str,
    ) -> None:
        self._config = config
        self._facts = facts
        self._leaves = leaves
        self._policies = policies
        self._reconciler = reconciler
        self._listeners = listeners
        self._attaching = attaching
        self._metrics = metrics
        self._ads = ads
        self._clock = clock
        self._started = clock.elapsed()
        self._storage = storage
        self._others = others
        self._tunnels = tunnels
        self._parts = parts
        self._backend = backend
        self._refused = 0  # attaches

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentView:
        if self._facts.tls_port in (request.target(), *request.ports):
            raise InvalidInput(
                f"port {self._facts.tls_port} is where cellnet itself terminates TLS",
                hint="name the port of the app with --port or --tls-target",
            )
        try:
            return self._view(await self._attaching.attach(request, peer=peer.pid))
        except RAISED as error:
            self._refused += 1
            self._metrics.refused_attaches.labels(type(error).__name__).inc()
            raise

    async def detach(self, name: str) -> bool:
        return await self._attaching.detach(name)

    async def attachments(self) -> tuple[AttachmentView, ...]:
        return tuple(self._view(held) for held in self._attaching.present() if held.phase is Phase.ATTACHED)

    async def attachment(self, name: str) -> AttachmentView | None:
        present = self._attaching.present()
        return next((self._view(held) for held in present if held.name == name and held.phase is Phase.ATTACHED), None)

    def _view(self, held: Attachment) -> AttachmentView:
        keyring = self._leaves.keyring
        return AttachmentView(
            attachment=held,
            tls=TlsView(self._tls_state(held), self._leaves.not_after(held.name)),
            pin=pin_of(held.name, pins=self._facts.pins),
            environment={
                "CF_INSTANCE_INTERNAL_IP": str(held.address),
                "CF_INSTANCE_INDEX": str(held.instance),
                "CF_INSTANCE_CERT": str(keyring.chain_of(held.name)),
                "CF_INSTANCE_KEY": str(keyring.key_of(held.name)),
                "CF_SYSTEM_CERT_PATH": str(keyring.trust),
            },
        )

    def _tls_state(self, held: Attachment) -> TlsState:
        status = self._ads.status()
        if listener_key(held.address) in status.refused:
            return TlsState.REFUSED
        return TlsState.READY if status.connected and held.address not in self._listeners.closed else TlsState.WAITING

    async def status(self) -> Status:
        envoy = await self._envoy()
        in_force = await self._policies.in_force()
        from_store = await self._policies.from_store()
        last = self._reconciler.last_change
        return Status(
            problems=problems_of(self._parts),
            cell=CellView(
                name=self._config.cell,
                overlay=self._facts.overlay,
                subnet=self._facts.subnet,
                mtu=self._others.underlay.facts.mtu,
                attachments=len(await self.attachments()),
                version=version("cellnet"),
                pid=os.getpid(),
                started=self._clock.called(self._started),
            ),
            store=self._storage.view,
            peers=self._peers(),
            policies=PoliciesView(
                from_files=len(in_force) - len(from_store),
                from_store=len(from_store),
                files=self._policies.file_count,
                bad_files=self._policies.bad_files,
            ),
            firewall=FirewallView(self._backend, self._reconciler.rule_count),
            envoy=envoy,
            ca=self._ca_view(),
            last_apply=None if last is None else LastApply(self._clock.called(last.ended), last.milliseconds, last.changes),
            repairs=self._reconciler.repairs,
            refused_attaches=self._refused,
        )

    def _peers(self) -> tuple[PeerView, ...]:
        answers = self._tunnels.answers
        return tuple(
            PeerView(
                name=each.record.name,
                subnet=each.record.subnet,
                underlay=each.record.underlay,
                alive_since=None if each.alive_since is None else datetime.fromtimestamp(each.alive_since, UTC),
                tunnel=answers.get(vtep(each)),
            )
            for each in self._others.peers.all
        )

    async def _envoy(self) -> EnvoyView:
        status = self._ads.status()
        refused = tuple(f"{key}: {words}" for key, words in status.refused.items())
        try:
            about = await asyncio.to_thread(admin.server, self._config.paths.envoy_admin)
            count = len(await asyncio.to_thread(admin.listeners, self._config.paths.envoy_admin))
        except Unavailable:
            return EnvoyView(connected=status.connected, version=None, listeners=0, rejected=refused)
        return EnvoyView(connected=status.connected, version=about.version, listeners=count, rejected=refused)

    def _ca_view(self) -> CaView:
        authorities = self._leaves.authorities
        cell_ends = authorities.cell.certificate.not_valid_after_utc
        expiries = [cell_ends, *filter(None, [self._leaves.next_expiry()])]
        return CaView(
            trust_domain=self._config.trust_domain,
            root_not_after=authorities.cell.chain[-1].not_valid_after_utc,
            cell_not_after=cell_ends,
            next_expiry=min(expiries),
        )

    async def policies(self) -> tuple[Policy, ...]:
        return await self._policies.in_force()

    async def allow_policy(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, credentials: StoreCredentials | None
    ) -> str:
        async with self._storage.acting_as(credentials):
            given = await self._policies.allow(source, to=to, ports=ports, name=name)
        await self._enforced()
        return given

    async def apply_policies(self, document: str, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        async with self._storage.acting_as(credentials):
            names = await self._policies.apply(document)
        await self._enforced()
        return names

    async def delete_policy(self, name: str, *, credentials: StoreCredentials | None) -> bool:
        async with self._storage.acting_as(credentials):
            gone = await self._policies.delete(name)
        await self._enforced()
        return gone

    async def accept_loss(self, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        async with self._storage.acting_as(credentials):
            names = await self._policies.accept_loss()
        await self._enforced()
        return names

    async def _enforced(self) -> None:
        """A policy command returns when its effect is there. Raises why it is not."""
        problem = (await self._reconciler.settle()).problem
        while problem is None and self._reconciler.mass_loss.problem is not None:  # it is over in a moment, either way
            await asyncio.sleep(DOUBT)
            problem = (await self._reconciler.settle()).problem
        if problem is not None:
            raise problem

    async def check(self, source: AppName, *, destination: AppName, protocol: Protocol, port: int) -> Verdict:
        return Verdict(
            by=await self._policies.check(source, to=destination, protocol=protocol, port=port),
            reverse=await self._policies.check(destination, to=source, protocol=protocol, port=port),
        )

    async def sync(self, *, within: float) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(within):
                with contextlib.suppress(Unavailable, HostRefused, TimeoutError):  # then what is known counts
                    async with asyncio.timeout(STORE_SECONDS):
                        await self._storage.store.catch_up()
                missing = await self._policies.settle_files()
                report = await self._reconciler.settle()
                while report.problem is not None or self._reconciler.mass_loss.problem is not None:
                    report = await self._reconciler.settle()
                    await asyncio.sleep(DOUBT)
        except TimeoutError:
            last = self._reconciler.last.problem
            return (f"not enforced within {within:g} s: {last.what if last else 'the loop is still at work'}",)
        # not the containers that cannot be connected: their rules are in force, and their own root can have brought it about
        return missing

    async def metrics(self) -> str:
        ca = self._ca_view()
        leaf_ends = self._leaves.next_expiry()
        status = self._ads.status()
        levels = Levels(
            attachments=len(await self.attachments()),
            rules=self._reconciler.rule_count,
            envoy_connected=status.connected,
            envoy_refused=len(status.refused),
            envoy_pushed=status.pushed,
            problems=len(problems_of(self._parts)),
            expiries={"root": ca.root_not_after, "cell": ca.cell_not_after} | ({"leaf": leaf_ends} if leaf_ends else {}),
        )
        return self._metrics.text(levels, now=self._clock.now())

    async def ca(self) -> Shown:
        with refusals_told():
            shown = await asyncio.to_thread(show, self._config.paths.ca)
        return replace(shown, bundle=self._leaves.bundle)

    async def publish_trust(self, roots: str | None, *, add: bool, credentials: StoreCredentials | None) -> tuple[Summary, ...]:
        store, domain = self._storage.store, self._config.trust_domain
        text = self._leaves.own_root if roots is None else roots.encode()
        given = checked(text, trust_domain=domain, now=self._clock.now())
        if add:
            given = added(given, to=await store.trust(), trust_domain=domain)
        async with self._storage.acting_as(credentials):
            await store.set_trust(given)
        await self._enforced()
        return summaries(given)

    async def cells(self) -> tuple[CellRow, ...]:
        return tuple(
            CellRow(
                record=each.record,
                alive_since=None if each.alive_since is None else datetime.fromtimestamp(each.alive_since, UTC),
                here=each.record.name == self._config.cell,
            )
            for each in await self._storage.store.cells()
        )

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        async with self._storage.acting_as(credentials):
            await self._storage.store.remove_cell(name, now=self._clock.seconds())
        await self._enforced()
