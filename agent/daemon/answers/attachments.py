"""What the API asks about attachments."""

from collections.abc import Callable, Mapping
from datetime import datetime

from agent.attach.transaction import AttachTransactions
from agent.control.api.attachments import AttachmentView, TlsView
from agent.control.peer import Peer
from agent.envoy.listeners import Listeners, TlsState
from agent.errors import RAISED, InvalidInput
from agent.identity.leaves import Leaves
from agent.loop.desired import CellFacts, pin_of
from agent.metrics import Metrics
from agent.model.attachment import Attachment, AttachRequest
from agent.model.status import Events, Part


class AttachmentAnswers(Part):
    """Keeps what was refused. `now` is the time of day (UTC)."""

    def __init__(
        self,
        attaching: AttachTransactions,
        *,
        leaves: Leaves,
        listeners: Listeners,
        facts: CellFacts,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._attaching = attaching
        self._leaves = leaves
        self._listeners = listeners
        self._facts = facts
        self._metrics = metrics
        self._now = now
        self._refused = Events()

    async def rows(self) -> Mapping[str, object]:
        """`refused_attaches` since the agent's start, which failed and were undone, and the last of them."""
        return {"refused_attaches": self._refused.count, "last_refused_attaches": self._refused.last}

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentView:
        """See AttachmentService; here and below."""
        if self._facts.tls_port in (request.target(), *request.ports):
            raise InvalidInput(
                f"port {self._facts.tls_port} is where cellnet itself terminates TLS",
                hint="name the port of the app with --port or --tls-target",
            )
        try:
            return self._view(await self._attaching.attach(request, peer=peer))
        except RAISED as error:
            self._refused.add(self._now(), f"{request.name}: {error.what}")
            self._metrics.refused_attaches.labels(type(error).__name__).inc()
            raise

    async def detach(self, name: str) -> bool:
        return await self._attaching.detach(name)

    async def attachments(self) -> tuple[AttachmentView, ...]:
        return tuple(map(self._view, self._attaching.attached()))

    async def attachment(self, name: str) -> AttachmentView | None:
        return next((self._view(held) for held in self._attaching.attached() if held.name == name), None)

    def _view(self, held: Attachment) -> AttachmentView:
        keyring = self._leaves.keyring
        return AttachmentView(
            name=held.name,
            app=str(held.app),
            instance=held.instance,
            address=held.address,
            ports=held.ports,
            routes=held.routes,
            interface=held.interface,
            tls=self._tls(held),
            environment={
                "CF_INSTANCE_INTERNAL_IP": str(held.address),
                "CF_INSTANCE_INDEX": str(held.instance),
                "CF_INSTANCE_CERT": str(keyring.chain_of(held.name)),
                "CF_INSTANCE_KEY": str(keyring.key_of(held.name)),
                "CF_SYSTEM_CERT_PATH": str(keyring.trust),
            },
            pin=pin_of(held.name, pins=self._facts.pins),
        )

    def _tls(self, held: Attachment) -> TlsView:
        state, ends = self._listeners.tls_state(held.address), self._leaves.not_after(held.name)
        has_ended = ends is not None and ends < self._now()
        return TlsView(TlsState.EXPIRED if has_ended and state is TlsState.READY else state, ends)
