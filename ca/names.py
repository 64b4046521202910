"""The identity in a leaf: one app of one trust domain, at one address, under some DNS names.

The SPIFFE id is what policies are checked against, the address is what anti-spoofing ties to the kernel's tag, the DNS names
are what clients dial. A leaf with two addresses or two SPIFFE ids would be two identities, so reading one is refused.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from cryptography import x509

from ca.errors import CaRefused

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SPIFFE = re.compile(r"spiffe://([^/]+)/org/([^/]+)/space/([^/]+)/app/([^/]+)")
LONGEST_NAME = 253


def is_dns_name(text: str) -> bool:
    """True for lower-case labels joined by dots, 253 characters at most, no trailing dot, no wildcard."""
    return len(text) <= LONGEST_NAME and all(_LABEL.fullmatch(label) for label in text.split("."))


def check_trust_domain(text: str) -> None:
    """Raises CaRefused unless `text` can stand between `spiffe://` and the path."""
    if not is_dns_name(text):
        raise CaRefused(f"'{text}' is not a trust domain", hint="use a DNS name in lower case, e.g. cell.internal")


def spiffe_id(trust_domain: str, *, org: str, space: str, app: str) -> str:
    """`spiffe://<trust domain>/org/<org>/space/<space>/app/<app>`."""
    return f"{spiffe_prefix(trust_domain, org=org, space=space)}{app}"


def spiffe_prefix(trust_domain: str, *, org: str, space: str | None) -> str:
    """What the SPIFFE ids of all apps of a space begin with, or of an org where `space` is None."""
    within = f"spiffe://{trust_domain}/org/{org}/space/"
    return within if space is None else f"{within}{space}/app/"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a leaf proves. `org`, `space` and `app` are DNS labels; the order of `dns_names` is kept in the certificate."""

    trust_domain: str
    org: str
    space: str
    app: str
    address: IPv4Address
    dns_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        for label in (self.org, self.space, self.app):
            if not _LABEL.fullmatch(label):
                raise CaRefused(f"'{label}' cannot stand in a SPIFFE id", hint="org, space and app are DNS labels")
        for name in self.dns_names:
            if not is_dns_name(name):
                raise CaRefused(f"'{name}' is not a DNS name", hint="use labels of a-z, 0-9 and inner hyphens")

    @property
    def spiffe_id(self) -> str:
        """`spiffe://<trust domain>/org/<org>/space/<space>/app/<app>`."""
        return spiffe_id(self.trust_domain, org=self.org, space=self.space, app=self.app)

    def alternative_names(self) -> x509.SubjectAlternativeName:
        """The certificate's form of this identity."""
        return x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(self.spiffe_id),
                *(x509.DNSName(name) for name in self.dns_names),
                x509.IPAddress(self.address),
            ]
        )

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Read a leaf. Raises CaRefused unless it has exactly one SPIFFE id of an app and exactly one IPv4 address."""
        names = _alternative_names(certificate)
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        addresses = names.get_values_for_type(x509.IPAddress)
        app = _SPIFFE.fullmatch(uris[0]) if len(uris) == 1 else None
        if app is None:
            raise CaRefused(f"the certificate carries {uris or 'no SPIFFE id'}, not one SPIFFE id of an app")
        if len(addresses) != 1 or not isinstance(addresses[0], IPv4Address):
            raise CaRefused(f"the certificate of {uris[0]} carries {len(addresses)} addresses, not one IPv4 address")
        trust_domain, org, space, name = app.groups()
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
        return cls(trust_domain, org, space, name, address=addresses[0], dns_names=dns_names)


def trust_domain_of(authority: x509.Certificate) -> str | None:
    """The trust domain that a root or intermediate names as its own (`spiffe://<trust domain>`), or None."""
    for uri in _alternative_names(authority).get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe://"):
            return uri.removeprefix("spiffe://").partition("/")[0]
    return None


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return x509.SubjectAlternativeName([])
