"""What an operator should mend now, gathered for `status`. Pure: each source is looked at, nothing is asked or changed."""

from collections.abc import Iterator

from agent.control.service import Problem
from agent.model.attachment import Attachment, Phase
from agent.reconcile.leaves import Leaves
from agent.reconcile.policies import Policies
from agent.reconcile.tagging import Tagging
from agent.reconcile.turn import Report
from dataplane.envoy.ads import EnvoyStatus

RIVAL = Problem(
    "firewall",
    "somebody keeps putting a rule that can accept before our jump: what it accepts escapes the policies",
    "iptables -S FORWARD and -S INPUT show it; have that program insert behind the jump to CELLNET-FORWARD",
)


def problems(
    *,
    report: Report,
    rival: bool,
    envoy: EnvoyStatus,
    policies: Policies,
    leaves: Leaves,
    tagging: Tagging,
    attachments: tuple[Attachment, ...],
    strangers: tuple[int, ...],
) -> tuple[Problem, ...]:
    """All of them, the gravest area first."""
    return (
        *_kernel(report, attachments),
        *([RIVAL] if rival else []),
        *_envoy(envoy),
        *(Problem("policies", str(each)) for each in policies.problems()),
        *_tags(tagging),
        *(
            Problem("identity", f"no new certificate for {name or 'the cell'}: {what}")
            for name, what in leaves.failures.items()
        ),
        *(
            Problem("lock", f"uid {uid} holds a name of the agent's lock", "see ss -xlp | grep cellnet-agent")
            for uid in strangers
        ),
    )


def _kernel(report: Report, attachments: tuple[Attachment, ...]) -> Iterator[Problem]:
    if report.problem is not None:
        yield Problem("kernel", report.problem.what, report.problem.hint)
    names = {held.address: held.name for held in attachments}
    for address, error in report.failures.items():
        yield Problem("kernel", f"{names.get(address, address)}: {error.what}", error.hint)
    for held in attachments:
        if held.phase is Phase.DETACHING:
            yield Problem("kernel", f"'{held.name}' is not wholly detached yet", "see the agent's log; it goes on trying")


def _envoy(envoy: EnvoyStatus) -> Iterator[Problem]:
    if not envoy.connected:
        yield Problem(
            "envoy", "Envoy is not connected: no TLS, no new attachments", "start it with `cellnet envoy`, see its log"
        )
    for key, words in envoy.refused.items():
        yield Problem("envoy", f"Envoy refused {key}: {words}")


def _tags(tagging: Tagging) -> Iterator[Problem]:
    if tagging.problem is not None:
        yield Problem("tags", tagging.problem.what, tagging.problem.hint)
