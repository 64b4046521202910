"""How much one workload may take of the Envoy that it shares with all the others of its cell.

What all of them may take together is in `process/overload.py`, what one caller may ask for in the kernel's rules (`firewall/`).
"""

from typing import Final

from google.protobuf.duration_pb2 import Duration

# TCP probes, in seconds and counts: what finds a peer that vanished, so that idle connections may live for ever.
KEEPALIVE_IDLE: Final = 60
KEEPALIVE_INTERVAL: Final = 15
KEEPALIVE_PROBES: Final = 4
# Bytes read ahead of a slow peer, per direction of a connection. Used only while there is a slow peer.
BUFFER: Final = 256 * 1024
# Connections to one workload at a time, and the requests in flight in them. Well below what the whole Envoy may have
# (`overload.connections_for`) even where no process may open more than 20,000 files: a flood at one port must leave room.
CONNECTIONS: Final = 4_000
STREAMS: Final = 50_000
# What a caller may send before the handshake is done and the app is dialled.
EARLY_BYTES: Final = 16 * 1024
# A caller that connects and sends nothing, or not TLS, holds a connection for no longer than this.
HANDSHAKE: Final = Duration(seconds=10)
BACKLOG: Final = 1024
# Handshakes for tunnels to one workload, all callers' together: so many at once, as when all of an app's callers are started
# again, and so many a second after that. Each takes half a millisecond of a processor, and a tunnel then serves hundreds of
# calls. Not on the port that terminates TLS, where each call is a handshake: there what the app can bear is the limit.
HANDSHAKES_AT_ONCE: Final = 2_000
HANDSHAKES_A_SECOND: Final = 500
# What a caller may write into the headers of a stream, in KiB: Envoy's are a fifth of one.
TUNNEL_HEADERS: Final = 4
# Tunnels that one workload opens, to all others together; streams that find no room in them wait for it.
TUNNELS: Final = 1_024

# What a stream is sent ahead of its reader, and what a reader that pauses costs the most of: at 1 MiB a hundred of them take
# three quarters of a small Envoy's heap, and nothing is faster. A tunnel's streams share its own: at less than the most
# that can be, a dozen readers that pause stop all others.
STREAM_WINDOW: Final = 512 * 1024
TUNNEL_WINDOW: Final = 2**31 - 1
TUNNEL_STREAMS: Final = 128
# Streams in the life of a tunnel: near 3,000 that callers reset, the codec ends the whole connection.
TUNNEL_REQUESTS: Final = 480
# An end of a tunnel that no stream has used for so long is given up.
TUNNEL_IDLE: Final = Duration(seconds=300)
# How soon an address or a port is forgotten that nothing is connected to any more. For each new one Envoy's main thread copies
# the list of those that a cluster has; a program that called one after the other held it up for minutes. What there can be of
# addresses, `outbound.py` bounds. To look for them takes a third of a hundredth of a processor at 250 workloads
FORGOTTEN: Final = Duration(nanos=250_000_000)
# New calls of one workload, so that the list stays short where there are more processors: above what Envoy can do on two. None
# of streams to one, which would be all callers' together: one of them could take it from the others
CALLS_AT_ONCE: Final = CONNECTIONS
CALLS_A_SECOND: Final = 5_000
# Bytes read ahead between Envoy and an app, per direction, which is what enters a tunnel at a time: at 32 KiB a stream costs a
# sixth more, at 128 a call beside a stream waits twice as long. The tunnel's own buffer is shared by its streams.
APP_BUFFER: Final = 64 * 1024
TUNNEL_BUFFER: Final = 1024 * 1024
