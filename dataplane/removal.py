"""Taking all that is ours off the host: what has an owner by its mark, in the order in which a plan takes effect.

A plan that leads to empty tables removes what links, rules, routes and sets there are, whichever agent made them; another
program's entries are in none of our tables. Each step may be done again.
"""

from dataplane.firewall.backends import backends
from dataplane.kernel import Kernel
from dataplane.plan import Plan, plan
from dataplane.sets.messages import destroy
from dataplane.tables import TAGS_SET, VTEPS_SET, Tables
from host.netlink.messages import NETLINK_NETFILTER
from host.netlink.socket import connect


def remove_all() -> Plan:
    """What was there, of the calling thread's namespace, of both backends. Raises HostRefused: then some of it is left."""
    backend = backends.detect()
    kernel = Kernel(backends.firewall(backend))
    try:
        found = kernel.read(Tables(), known={}).result()
        changes = plan(Tables(), found)
        outcome = kernel.apply(changes, Tables()).result()
        for refused in (*outcome.failures.values(), outcome.overlay):
            if refused is not None:
                raise refused
        backends.clear_other(backend)
        kernel.submit(_remove_sets).result()
    finally:
        kernel.close()
    return changes


def _remove_sets() -> None:
    """Those that stay when they are empty. One that another program's rule names keeps that rule, and stays."""
    with connect(NETLINK_NETFILTER) as link:
        destroy(link, [TAGS_SET, VTEPS_SET])
