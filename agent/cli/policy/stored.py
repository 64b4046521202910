"""Which policies of the store allow exactly what a user has written: they go by names, and users know what they allow."""

from collections.abc import Sequence

from agent.client.answer import Fields


def names_of(
    policies: Fields, *, source: object, to: object, tcp: Sequence[str] = (), udp: Sequence[str] = (), icmp: bool = False
) -> tuple[str, ...]:
    """Of what `GET /v1/policies` answers. Ends and ports as the agent writes them, but for one app as the source: ports in as
    few ranges as possible, ascending.

    Usually one or none: the name that is made up says what is allowed. Under names of the user's own there may be more.
    """
    wanted = [source] if isinstance(source, str) else source, to, list(tcp), list(udp), icmp
    return tuple(each.text("name") for each in policies.each() if is_stored(each) and _allowed(each) == wanted)


def is_stored(policy: Fields) -> bool:
    """Whether it is of the store: that of a file has a line there."""
    return policy.at("origin").at("line").missing


def _allowed(policy: Fields) -> tuple[object, ...]:
    """As JSON: those that concern the outside have other ends."""
    return (*(policy.at(name).value for name in ("from", "to", "tcp", "udp")), not policy.at("icmp").missing)
