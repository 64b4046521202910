"""Set `cellnet-tags`: container address -> tag, which the kernel writes into each packet's mark. Ours by its name."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from pyroute2 import IPSet
from pyroute2.ipset import IPSetError, NoSuchObject

from dataplane.errors import HostRefused
from dataplane.firewall.rules import TAGS_SET
from dataplane.plan import Delta
from dataplane.tables import TAG_MASK

HINT = "the kernel needs the ip_set and ip_set_hash_ip modules"


class TagSet:
    """The set of the namespace that the calling thread is in; one thread only, never inside a running event loop."""

    def __init__(self) -> None:
        self._sets = IPSet()

    def close(self) -> None:
        """Give the socket back."""
        self._sets.close()

    def read(self) -> dict[IPv4Address, int]:
        """Its entries; a set that is not there has none."""
        found: dict[IPv4Address, int] = {}
        try:
            for message in self._sets.list(TAGS_SET):
                entries = message.get_attr("IPSET_ATTR_ADT")
                for entry in entries.get_attrs("IPSET_ATTR_DATA") if entries else ():
                    address = entry.get_attr("IPSET_ATTR_IP_FROM").get_attr("IPSET_ATTR_IPADDR_IPV4")
                    mark = entry.get_attr("IPSET_ATTR_SKBMARK")
                    found[IPv4Address(address)] = mark[0] & TAG_MASK if mark else 0
        except NoSuchObject:
            return {}
        except IPSetError as error:
            raise HostRefused(f"cannot read set {TAGS_SET}: {error}", hint=HINT) from error
        return found

    def ensure(self) -> None:
        """Make the set where it is missing: rules that name it can only be loaded then."""
        try:
            self._sets.create(TAGS_SET, "hash:ip", exclusive=False, skbinfo=True)
        except IPSetError as error:
            hint = f"a set {TAGS_SET} of another type is in the way: ipset destroy {TAGS_SET}"
            raise HostRefused(f"cannot make set {TAGS_SET}: {error}", hint=hint) from error

    def put(self, delta: Delta[IPv4Address, int]) -> None:
        """Write new and different entries."""
        self._write(delta.put)

    def _write(self, entries: Mapping[IPv4Address, int]) -> None:
        for address, tag in entries.items():
            try:
                self._sets.add(TAGS_SET, str(address), exclusive=False, skbmark=(tag, TAG_MASK))
            except IPSetError as error:
                raise HostRefused(f"cannot add {address} to set {TAGS_SET}: {error}", hint=HINT) from error

    def drop(self, delta: Delta[IPv4Address, int]) -> None:
        """Remove entries; one that has gone already is fine."""
        for address in delta.drop:
            try:
                self._sets.delete(TAGS_SET, str(address), exclusive=False)
            except IPSetError as error:
                raise HostRefused(f"cannot remove {address} from set {TAGS_SET}: {error}", hint=HINT) from error
