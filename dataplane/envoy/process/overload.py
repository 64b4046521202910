"""What all workloads of a cell may take of Envoy together, and what becomes of it as that runs out.

The dearest streams go first, then callers that dally; new ones are refused last. What is served goes on.

The heap's bound is that of open files, too: an Envoy (1.40) that is refused a descriptor for a connection to an app ends with
all that it serves, and nothing in it counts those connections over all apps. Each takes its part of the heap.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.overload.v3.overload_pb2 import (
    BufferFactoryConfig,
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ScaledTrigger,
    ScaleTimersOverloadActionConfig,
    ThresholdTrigger,
    Trigger,
)
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import DownstreamConnectionsConfig
from envoy.extensions.resource_monitors.fixed_heap.v3.fixed_heap_pb2 import FixedHeapConfig
from google.protobuf.duration_pb2 import Duration

from dataplane.envoy.ads.resource import packed

# Descriptors that Envoy needs besides its connections, which take two each; and for each worker the listeners of a cell.
OWN_DESCRIPTORS: Final = 1_000
LISTENERS: Final = 3 * 254
# The least that a connection takes of the heap, in bytes for each of its descriptors: from a tunnel to an app it is 27 KiB.
HEAP_PER_DESCRIPTOR: Final = 24 << 10
# 254 workloads fit that call nobody.
LEAST_HEAP: Final = 128 << 20
HEAP: Final = "envoy.resource_monitors.fixed_heap"
# The same heap, measured by four times its bound, see `DEAREST`
FOURFOLD: Final = "cellnet.fourfold_heap"
CALLERS: Final = "envoy.resource_monitors.global_downstream_max_connections"
# How soon a full heap is noticed: a flood opens 250 streams meanwhile, which is well within what Envoy needs for itself. To
# look takes half a hundredth of a processor.
LOOK_AGAIN: Final = Duration(nanos=25_000_000)
# The parts of the heap at which something begins, and at which it is done in full.
SHRINK: Final = 0.75
# Envoy acts on a change of this alone, on fifty streams of each worker, and what is done in full changes no more: a heap that
# had grown past its bound between two looks stayed there and calls were refused. Four times the bound is all that a host has
DEAREST: Final = (0.75, 4.0)
HURRY: Final = (0.75, 0.9)
REFUSE: Final = 0.95
# The first to go have 2**17 bytes buffered, more than what is read leaves for a moment; at twice the bound they have an
# eighth of that. Eight classes, of which this is the least
LEAST_DEAR: Final = 10
# The patience with a handshake, at the end.
HASTE: Final = Duration(seconds=1)


def connections_for(descriptors: int, *, workers: int) -> int:
    """How many callers a process with so many file descriptors (RLIMIT_NOFILE) can serve before it runs dry."""
    return max(_spare(descriptors, workers) // 2, 100)


def memory_for(descriptors: int, *, workers: int, host: int) -> int:
    """The heap that Envoy may have on a host with so many bytes of memory: a quarter of that, and less where files are few."""
    return max(min(host // 4, _spare(descriptors, workers) * HEAP_PER_DESCRIPTOR), LEAST_HEAP)


def _spare(descriptors: int, workers: int) -> int:
    return descriptors - OWN_DESCRIPTORS - workers * LISTENERS


def overload_manager(*, connections: int, memory: int) -> OverloadManager:
    """For so many callers at once, and so many bytes of heap."""
    callers = DownstreamConnectionsConfig(max_active_downstream_connections=connections)
    return OverloadManager(
        refresh_interval=LOOK_AGAIN,
        resource_monitors=[
            ResourceMonitor(name=CALLERS, typed_config=packed(callers)),
            *(
                ResourceMonitor(name=name, typed_config=packed(FixedHeapConfig(max_heap_size_bytes=bound)))
                for name, bound in ((HEAP, memory), (FOURFOLD, 4 * memory))
            ),
        ],
        actions=_actions(),
        buffer_factory_config=BufferFactoryConfig(minimum_account_to_track_power_of_two=LEAST_DEAR),
    )


def _actions() -> Iterator[OverloadAction]:
    # not disable_http_keepalive: each tunnel that ends is a handshake more
    yield _action("shrink_heap", _at(SHRINK))
    yield _action("reset_high_memory_stream", _between(*(part / 4 for part in DEAREST), of=FOURFOLD))
    hurry = _action("reduce_timeouts", _between(*HURRY))
    scaled = ScaleTimersOverloadActionConfig.ScaleTimer(
        timer=ScaleTimersOverloadActionConfig.TRANSPORT_SOCKET_CONNECT, min_timeout=HASTE
    )
    hurry.typed_config.CopyFrom(packed(ScaleTimersOverloadActionConfig(timer_scale_factors=[scaled])))
    yield hurry
    # at once instead of by a time-out: callers are told
    yield _action("stop_accepting_requests", _at(REFUSE))
    yield _action("reject_incoming_connections", _at(REFUSE))


def _action(name: str, trigger: Trigger) -> OverloadAction:
    return OverloadAction(name=f"envoy.overload_actions.{name}", triggers=[trigger])


def _at(part: float) -> Trigger:
    return Trigger(name=HEAP, threshold=ThresholdTrigger(value=part))


def _between(first: float, last: float, *, of: str = HEAP) -> Trigger:
    return Trigger(name=of, scaled=ScaledTrigger(scaling_threshold=first, saturation_threshold=last))
