"""First in full, then silence, then one word of recovery."""

from structlog.testing import capture_logs

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused


def test_a_failure_is_logged_once_until_it_changes_and_its_recovery_once() -> None:
    with capture_logs() as logged:
        complaints = Complaints(log.get("test"), failed="not_done", recovered="done_again")
        for what in ("full", "full", "read-only", "read-only"):
            complaints.about(HostRefused(what, hint="look"))
        complaints.over()
        complaints.over()
    assert [(each["event"], each.get("what")) for each in logged] == [
        ("not_done", "full"),
        ("not_done", "read-only"),
        ("done_again", "read-only"),
    ]


def test_failures_with_keys_of_their_own_are_apart() -> None:
    with capture_logs() as logged:
        complaints = Complaints(log.get("test"), failed="not_done", recovered="done_again")
        for key in ("a", "b", "a"):
            complaints.about(HostRefused("full"), key=key, name=key)
        complaints.over_for_all_but({"b"})
        complaints.about(HostRefused("full"), key="b", name="b")
    assert [(each["event"], each.get("name")) for each in logged] == [
        ("not_done", "a"),
        ("not_done", "b"),
        ("done_again", None),
    ]
