"""What is refused or dropped is noted for the agent, which says who was refused what: over NFLOG, with a reason as its prefix.

A note stands before what refuses, so that what passes pays nothing. Containers, of this cell and of others, have a share each:
one that is refused without end hides no other's. All addresses outside have one share together, since there may be any number
of them; so have the forged ones, of which one container may make any number.

What passes by an audit alone is noted, too, once a flow. There each two ends have a share, so that the calls that are many hide
no rare ones, and what is refused hides none of them. Of what passes to or from outside each container has one: of addresses
there may be any number.
"""

from ipaddress import IPv4Network
from typing import Final

from dataplane.firewall.matches import FRESH
from dataplane.tables import AUDITED, AUDITED_IN, AUDITED_OUT, NOTED, NOTES_GROUP, Note

SIZE: Final = 64  # bytes of a packet: its headers
SHARE: Final = f"-m hashlimit --hashlimit-upto 20/sec --hashlimit-burst 50 --hashlimit-mode srcip --hashlimit-name {NOTED}"
COMMON: Final = "-m limit --limit 50/sec --limit-burst 100"


# With a full table the kernel would drop what comes: this is more pairs than the containers here make with those that call them
WATCHED: Final = (
    "-m hashlimit --hashlimit-upto 20/sec --hashlimit-burst 50 --hashlimit-mode srcip,dstip "
    f"--hashlimit-name {AUDITED} --hashlimit-htable-max 262144"
)
OF_ONE: Final = "-m hashlimit --hashlimit-upto 50/sec --hashlimit-burst 100 --hashlimit-mode {} --hashlimit-name {}"
WATCHED_OUT, WATCHED_IN = OF_ONE.format("srcip", AUDITED_OUT), OF_ONE.format("dstip", AUDITED_IN)


def noted(note: Note, overlay: IPv4Network) -> tuple[str, str]:
    """The rules that note what comes to them, and let it go on."""
    return f"-s {overlay} {SHARE} {_to_agent(note)}", f"! -s {overlay} {COMMON} {_to_agent(note)}"


def noted_together(note: Note) -> str:
    """The same where no source can be believed."""
    return f"{COMMON} {_to_agent(note)}"


def audited(share: str = WATCHED) -> str:
    """The rule that notes the first packet of each flow that comes to it, as many as have a `share`."""
    return f"{FRESH} {share} {_to_agent(Note.AUDITED)}"


def _to_agent(note: Note) -> str:
    return f"-j NFLOG --nflog-prefix {note} --nflog-group {NOTES_GROUP} --nflog-size {SIZE}"
