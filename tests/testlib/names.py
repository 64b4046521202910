"""What names lead to, as a container is answered by its cell's resolver."""

from cryptography import x509

from tests.testlib.dns.client import Code, ask
from tests.testlib.instance import Instance
from tests.testlib.node import Node


def addresses(node: Node, name: str) -> set[str]:
    """What a name leads to, as a container is answered; nothing where there is no such name."""
    found = ask(node, name)
    assert found.code in (Code.NOERROR, Code.NXDOMAIN), found
    return set(found.addresses)


def leads(node: Node, name: str, *to: Node) -> bool:
    """Whether a name leads to exactly these."""
    return addresses(node, name) == {str(each.address) for each in to}


def is_unknown(node: Node, name: str) -> bool:
    """Whether there is no such name."""
    return ask(node, name).code is Code.NXDOMAIN


def certified_names(caller: Instance, server: Node) -> list[str]:
    """The DNS names of the certificate that a container's TLS port shows, verified for its address."""
    with caller.dial_tls(server) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    alternative = x509.load_der_x509_certificate(shown).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return alternative.value.get_values_for_type(x509.DNSName)
