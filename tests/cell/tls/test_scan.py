"""61443 as an operator sees it: what an auditor's scan says of it, and opened again when root inside has closed it."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Refused
from tests.testlib.patience import eventually

pytestmark = pytest.mark.release

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 61443]}}\n"
# findings of testssl.sh that are meant, each with its reason; everything else that is not OK or INFO fails
MEANT = {
    "engine_problem": "about the scanner's own openssl, which has no GOST ciphers",
    "cert_expirationStatus": "a leaf lives for a day, renewed at half of it",
    "cert_notAfter": "the same",
    "cert_revocation": "its short life takes the place of a revocation list (docs/security.md)",
}
SECTIONS = ("--protocols", "--std", "-f", "--server-preference", "--server-defaults", "--vulnerable")
# one finding of each section and of each vulnerability: a scan that was cut short would find nothing, too
LOOKED_AT = {
    "SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipher_order",
    "TLS_session_ticket", "cert_chain_of_trust", "cert_trust", "heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego",
    "secure_client_renego", "CRIME_TLS", "BREACH", "POODLE_SSL", "fallback_SCSV", "SWEET32", "FREAK", "DROWN", "LOGJAM",
    "BEAST", "LUCKY13", "RC4",
}  # fmt: skip
SCANNING = {
    "NXCONNECT": "127.0.0.1:0",  # in place of a name that it would look up in DNS
    "USLEEP_SND": "0.02",  # there is no network in between to wait for
    "USLEEP_REC": "0.05",
}


@pytest.mark.timeout(420)  # a minute of a busy machine's shell
def test_a_scan_finds_nothing_but_what_is_meant(cell: CellUnderTest, tmp_path: Path) -> None:
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", POLICY)
    found = scanned(web, api, tmp_path / "findings.json")
    assert found["cert_chain_of_trust"] == ("OK", "passed.")
    assert found["cert_trust"][0] == "OK"
    bad = {name: said for name, said in found.items() if said[0] not in ("OK", "INFO") and name not in MEANT}
    assert bad == {}
    assert found.keys() >= LOOKED_AT
    assert {"FS", "PFS"} & found.keys()  # by Debian 13's version and by Debian 12's


def scanned(web: Instance, api: Instance, findings: Path) -> Mapping[str, tuple[str, str]]:
    """What testssl.sh, trusting our root, says of api's port from inside web: severity and words by the name of the finding."""
    ours = (
        "--add-ca",
        web.environment["CF_INSTANCE_CA"],
        "--nodns",
        "none",
        "--warnings",
        "off",
        "--quiet",
        "--color",
        "0",
    )
    argv = ("nsenter", f"--net={web.pin}", "testssl", *SECTIONS, *ours, "--jsonfile", str(findings))
    done = subprocess.run(
        [*argv, f"{api.address}:{TLS_PORT}"], env={**os.environ, **SCANNING}, cwd=findings.parent, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return {each["id"]: (each["severity"], each["finding"]) for each in json.loads(findings.read_text())}


def test_a_port_that_root_inside_has_closed_is_reported_opened_again_and_counted(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    """Envoy is frozen meanwhile, so that there is time to see it closed."""
    cell = make_cell(kind=VigilantCell)
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", POLICY)
    before = int(cell.status().text("repairs"))
    os.kill(cell.envoy_pid, signal.SIGSTOP)
    try:
        eventually(lambda: closes(api))
        assert web.connect(api, TLS_PORT) is Refused
        eventually(lambda: any("api: Envoy's port 61443 is not open" in each for each in problems(cell)))
        assert tls_states(cell) == {"web": "ready", "api": "waiting"}
    finally:
        os.kill(cell.envoy_pid, signal.SIGCONT)
    eventually(lambda: int(cell.status().text("repairs")) == before + 1)
    assert web.get_tls(api) == f"hello {web.address}\n"
    eventually(lambda: cell.status().flag("ok"))
    assert tls_states(cell) == {"web": "ready", "api": "ready"}


def closes(api: Instance) -> bool:
    """Each of Envoy's threads has a socket there, and one call may miss some."""
    here = ("-ltn", "sport", "=", f":{TLS_PORT}")
    api.run("ss", "-K", *here)
    return not api.run("ss", "-H", *here)


def problems(cell: CellUnderTest) -> list[str]:
    return [each.text("what") for each in cell.status().at("problems").each()]


def tls_states(cell: CellUnderTest) -> dict[str, str]:
    return {each.text("name"): each.at("tls").text("state") for each in cell.client.get("/v1/attachments").each()}
