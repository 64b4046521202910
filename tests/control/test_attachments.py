"""What `ps` shows of an attachment."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.attach.published_ports import PublishedPorts
from agent.control.api.containers.views import AttachmentViews
from agent.envoy.listeners import TlsState
from agent.identity.keyring import Keyring
from tests.testlib.fakes.kernel import FACTS
from tests.testlib.samples import FIRST, NAMING, app, attachment

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class OneContainer:
    """Attached, served by Envoy, with a certificate that ends at noon; `at` is the time of day."""

    keyring = Keyring(Path("/nowhere"))

    def tls_state(self, _address: object) -> TlsState:
        return TlsState.READY

    def not_after(self, _name: str) -> datetime:
        return NOON


async def test_a_certificate_that_has_ended_is_expired_and_not_ready() -> None:
    scene: Any = OneContainer()
    for at, state in ((NOON - timedelta(seconds=1), TlsState.READY), (NOON + timedelta(seconds=1), TlsState.EXPIRED)):
        views = AttachmentViews(
            files=scene,
            leaves=scene,
            listeners=scene,
            facts=FACTS,
            naming=NAMING,
            published=PublishedPorts(lambda: (), facts=FACTS, reserved={}),
            is_ready=lambda _: False,
            now=lambda at=at: at,  # type: ignore[misc]
        )
        shown = views.of(attachment(app("web"), address=FIRST))
        assert (shown.tls.state, shown.ready) == (state, False)
