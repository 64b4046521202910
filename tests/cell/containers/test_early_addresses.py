"""With mutual TLS an address goes to another app after the end of the last certificate that names it, or with a notice."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ca.pem import certificates
from tests.testlib.cell import CellUnderTest
from tests.testlib.patience import eventually

WEB, API, OTHER = "acme/shop/web", "acme/shop/api", "acme/shop/other"
SETTINGS = ("overlay.network=10.255.1.0/28", "overlay.cell_prefix=29", "tls.mtls=accept", "tls.leaf_lifetime=24h")


def test_an_address_is_given_to_another_app_after_the_end_of_its_certificates_or_with_a_notice(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    """Five addresses. The agent is killed in between: what certificates name is not only in its memory."""
    cell = make_cell(*SETTINGS)
    web = cell.run_app(WEB)
    others = [cell.run_app(OTHER, name=f"other-{number}") for number in range(3)]
    web.stop()
    cell.kill("agent")
    config = cell.lab.policies.parent / "agent.yaml"
    config.write_text(config.read_text().replace("24h", "4s"))
    cell.start()
    api = cell.run_app(API)
    assert api.address not in {web.address, *(each.address for each in others)}, "one that was never used comes first"
    others[0].stop()
    assert cell.run_app(OTHER, name="again").address == others[0].address, "its own app's at once"
    early = cell.run_app(API, name="early")
    assert early.address == web.address
    what = f"'early' has {web.address}, which a certificate of acme/shop/web names until 20"
    (told,) = cell.status().at("last_early_addresses").each()
    assert told.text("what").startswith(what)
    until = certificates(Path(api.environment["CF_INSTANCE_CERT"]).read_bytes(), where="the file")[0].not_valid_after_utc
    api.stop()
    eventually(lambda: datetime.now(UTC) > until)
    assert cell.run_app("acme/shop/late").address == api.address
    assert cell.status().text("early_addresses") == "1"
