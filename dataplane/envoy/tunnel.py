"""What both ends of a tunnel agree on: HTTP/2 with windows so large that a reader that pauses stops no other stream."""

from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from google.protobuf.wrappers_pb2 import UInt32Value

from dataplane.envoy.limits import STREAM_WINDOW, TUNNEL_STREAMS, TUNNEL_WINDOW


def http2(*, connect: bool = False) -> Http2ProtocolOptions:
    """Of either end; `connect` for the one that streams come to. Which codec it is: `process/bootstrap.py`."""
    return Http2ProtocolOptions(
        allow_connect=connect,
        initial_stream_window_size=UInt32Value(value=STREAM_WINDOW),
        initial_connection_window_size=UInt32Value(value=TUNNEL_WINDOW),
        max_concurrent_streams=UInt32Value(value=TUNNEL_STREAMS),
    )
