"""Attachments as the API shows them: what is listed, and all that there is of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Self

from agent.attach.container_files import ContainerFiles
from agent.attach.published_ports import PublishedPorts
from agent.envoy.listeners import Listeners, TlsState
from agent.identity.leaves import Leaves
from agent.identity.names import Naming
from agent.loop.desired import CellFacts, pin_of
from agent.model.attachment import Attachment
from agent.model.limits import as_written
from agent.model.publication import Publication


@dataclass(frozen=True, slots=True)
class TlsView:
    """`not_after`: when its certificate ends (UTC), None while it has none."""

    state: TlsState
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class PublishedView:
    """Ports `port` to `last` of the host, on `address` of it or any, that lead to the container's, the first one to `to`.

    `tls`: there its TLS is terminated. `served`: something inside serves one of them, so that calls are not refused there.
    """

    port: int
    last: int
    address: IPv4Address | Literal["any"]
    to: int
    protocol: str
    tls: bool
    served: bool

    @classmethod
    def of(cls, publication: Publication, *, tls_port: int, served: bool) -> Self:
        """That of one of an attachment's."""
        return cls(
            port=publication.first,
            last=publication.last,
            address=publication.address or "any",
            to=publication.inside(tls_port=tls_port)[0],
            protocol=publication.protocol,
            tls=publication.to is None,
            served=served,
        )


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """An attachment, as it is listed. `routes` are those that lead to it or will; `ready`: its names do lead to it.

    `limits` are those of LimitsBody, None where there is none.
    """

    name: str
    app: str
    instance: int
    address: IPv4Address
    ports: tuple[int | str, ...]
    routes: tuple[str, ...]
    interface: str
    tls: TlsView
    ready: bool
    limits: Mapping[str, str | int | None]
    publish: tuple[PublishedView, ...]


@dataclass(frozen=True, slots=True)
class DnsView:
    """What its resolver goes by, and the file that says so."""

    nameservers: tuple[IPv4Address, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]
    file: Path


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """What the container's processes find, what an operator should know of it, and the file of it that is kept up to date."""

    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    environment_file: Path


@dataclass(frozen=True, slots=True)
class AttachmentInFull(AttachmentView):
    """An attachment with what its caller needs: its EnvironmentView besides, and `pin`, which holds its namespace."""

    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    environment_file: Path
    dns: DnsView
    pin: Path


class AttachmentViews:
    """Made of what knows the parts. `now` is the time of day (UTC)."""

    def __init__(
        self,
        *,
        files: ContainerFiles,
        leaves: Leaves,
        listeners: Listeners,
        facts: CellFacts,
        naming: Naming,
        published: PublishedPorts,
        is_ready: Callable[[Attachment], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._files = files
        self._leaves = leaves
        self._listeners = listeners
        self._facts = facts
        self._naming = naming
        self._published = published
        self._is_ready = is_ready
        self._now = now

    def of(self, held: Attachment) -> AttachmentView:
        """As it is listed. Whether its published ports are served is what the last look has found."""
        return AttachmentView(
            name=held.name,
            app=str(held.app),
            instance=held.instance,
            address=held.address,
            ports=tuple(each.json for each in held.ports),
            routes=self._naming.routes(held.app, held.routes, self._naming.held()),
            interface=held.interface,
            tls=self._tls(held),
            ready=self._is_ready(held),
            limits=as_written(held.limits),
            publish=tuple(
                PublishedView.of(each, tls_port=self._facts.tls_port, served=self._published.is_served(held, each))
                for each in held.publish
            ),
        )

    async def in_full(self, held: Attachment) -> AttachmentInFull:
        """With what its caller needs, after a look at its published ports."""
        if held.publish:
            await self._published.look()
        view, paths, resolver = self.of(held), self._files.paths(held.name), self._files.resolv_conf(held.app)
        environment = await self._files.environments.of(held)
        return AttachmentInFull(
            **{each.name: getattr(view, each.name) for each in fields(view)},
            environment=environment.variables,
            warnings=environment.warnings,
            environment_file=paths.environment,
            dns=DnsView(resolver.nameservers, resolver.search, resolver.options, paths.resolv_conf),
            pin=pin_of(held.name, pins=self._facts.pins),
        )

    def _tls(self, held: Attachment) -> TlsView:
        state, ends = self._listeners.tls_state(held.address), self._leaves.not_after(held.name)
        has_ended = ends is not None and ends < self._now()
        return TlsView(TlsState.EXPIRED if has_ended and state is TlsState.READY else state, ends)
