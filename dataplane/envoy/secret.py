"""What Envoy proves itself with and verifies others against. Sent by SDS only: no key is ever in a listener or a file."""

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from dataplane.state import Leaf

# Secrets are sent in the order of their names, and this one must be before every leaf: Envoy builds a listener's TLS as soon
# as it has both, and blames a broken leaf on whichever came last. The bundle is everybody's.
BUNDLE = "bundle"


def leaf(name: str, certificate: Leaf) -> Secret:
    """A workload's chain and key."""
    pair = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=certificate.chain), private_key=DataSource(inline_bytes=certificate.key)
    )
    return Secret(name=name, tls_certificate=pair)


def bundle(roots: bytes) -> Secret:
    """The PEM roots that client certificates must lead to. Must not be empty: Envoy would then verify nothing."""
    return Secret(name=BUNDLE, validation_context=CertificateValidationContext(trusted_ca=DataSource(inline_bytes=roots)))
