"""TLS of workloads: the port that callers from anywhere reach, and both ends of tunnels. Certificates come by SDS."""

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsParameters
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from dataplane.envoy import secret
from dataplane.envoy.ads.resource import packed

# Forward secrecy and authenticated encryption only; leaves are ECDSA. TLS 1.3 has no other ciphers anyway.
CIPHERS = (
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
)
# By default Envoy signs with SHA-1 for a TLS 1.2 client that offers nothing else. RSA: for callers' certificates.
SIGNATURES = (
    "ecdsa_secp256r1_sha256",
    "ecdsa_secp384r1_sha384",
    "rsa_pss_rsae_sha256",
    "rsa_pss_rsae_sha384",
    "rsa_pss_rsae_sha512",
    "rsa_pkcs1_sha256",
)
# A resumed session is not verified again: this is how long an expired client certificate can still be used.
SESSION = Duration(seconds=600)
# A secret that Envoy has not got by then leaves a listener that refuses every handshake, but holds up no other one.
SECRET_TIMEOUT = Duration(seconds=5)


def _by_sds(name: str) -> SdsSecretConfig:
    source = ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=SECRET_TIMEOUT
    )
    return SdsSecretConfig(name=name, sds_config=source)


def _common(leaf_name: str, *, parameters: TlsParameters, alpn: Sequence[str]) -> CommonTlsContext:
    return CommonTlsContext(
        tls_params=parameters,
        tls_certificate_sds_secret_configs=[_by_sds(leaf_name)],
        validation_context_sds_secret_config=_by_sds(secret.BUNDLE),
        alpn_protocols=alpn,
    )


def server(*, leaf_name: str, alpn: Sequence[str]) -> TransportSocket:
    """Terminate TLS 1.2 or later with the named leaf. A client certificate is requested; if one is sent it must verify."""
    parameters = TlsParameters(
        tls_minimum_protocol_version=TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        cipher_suites=CIPHERS,
        signature_algorithms=SIGNATURES,
    )
    context = DownstreamTlsContext(
        common_tls_context=_common(leaf_name, parameters=parameters, alpn=alpn),
        require_client_certificate=BoolValue(value=False),
        # tickets resume without a cache of sessions for each workload
        disable_stateful_session_resumption=True,
        session_timeout=SESSION,
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _of_tunnels(leaf_name: str) -> CommonTlsContext:
    """Envoys on both ends, so the newest of everything."""
    parameters = TlsParameters(
        tls_minimum_protocol_version=TlsParameters.TLSv1_3, tls_maximum_protocol_version=TlsParameters.TLSv1_3
    )
    return _common(leaf_name, parameters=parameters, alpn=("h2",))


def tunnel_server(*, leaf_name: str) -> TransportSocket:
    """The end that a tunnel leads to: the caller must show a certificate, at each handshake, which is never a resumed one."""
    context = DownstreamTlsContext(
        common_tls_context=_of_tunnels(leaf_name),
        require_client_certificate=BoolValue(value=True),
        disable_stateful_session_resumption=True,
        disable_stateless_session_resumption=True,
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def tunnel_client(*, leaf_name: str) -> TransportSocket:
    """The end that a tunnel comes from. The address that the server must have proved comes with each stream (`outbound.py`)."""
    context = UpstreamTlsContext(common_tls_context=_of_tunnels(leaf_name), max_session_keys=UInt32Value())
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))
