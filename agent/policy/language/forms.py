"""The forms of the language that concern more than TCP and UDP between apps, each with whether the dataplane enforces it.

The one place: a form that nothing enforces is refused where it is written, since a policy that is taken must hold.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from agent.errors import InvalidInput
from agent.model.outside import Cidrs
from agent.model.policy import EgressPolicy, IngressPolicy, Policy


class Form(Enum):
    """As a user writes it."""

    TO_CIDR = "to: {cidr: …}"
    TO_HOST = "to: {host: …}"
    FROM_CIDR = "from: {cidr: …}"
    ECHO = "icmp: echo"


ENFORCED: Final = {
    Form.TO_CIDR: True,
    Form.TO_HOST: True,
    Form.FROM_CIDR: True,
    Form.ECHO: True,
}


def require(form: Form) -> Form:
    """The form itself. Raises InvalidInput where nothing enforces it."""
    if not ENFORCED[form]:
        raise InvalidInput(f"`{form.value}` is not supported yet", hint="leave it out: nothing would enforce it")
    return form


def forms_of(policy: Policy) -> Iterator[Form]:
    """Those that a policy makes use of."""
    if isinstance(policy, EgressPolicy):
        yield Form.TO_CIDR if isinstance(policy.to, Cidrs) else Form.TO_HOST
    if isinstance(policy, IngressPolicy):
        yield Form.FROM_CIDR
    if policy.icmp:
        yield Form.ECHO
