"""A container's own resolv.conf at /etc/resolv.conf, for a command that otherwise sees the host's files.

It is bound there in the command's own mount namespace, so nothing of the host changes. Four kinds of host are met:

- /etc/resolv.conf is a file: it is mounted over.
- It is a link, to systemd-resolved's file or to nowhere: the link itself is mounted over. What it leads to is replaced now and
  then, and a mount over a file ends when another file gets its name.
- There is none, or /etc cannot be written: an overlay over /etc has one, since the host's /etc must not get one from us.
- The C library asks other services than DNS for the names of hosts (nsswitch.conf: `resolve` of systemd-resolved, `mdns`),
  which answer for the host and know no app: the command gets an nsswitch.conf without them, and no name service cache.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from agent.client.answer import Fields
from agent.model.resolv_conf import ResolvConf
from host import syscalls

ETC = Path("/etc")
RESOLV_CONF, NSSWITCH = "resolv.conf", "nsswitch.conf"
CACHE = Path("/run/nscd")
"""Where the C library finds a name service cache, which would ask for it with the host's resolv.conf."""
OF_THE_CONTAINER = frozenset({"files", "dns", "myhostname"})
"""Sources of hosts' names that look at files and at resolv.conf alone."""
HOSTS = re.compile(r"^(?P<name>[ \t]*hosts:)(?P<sources>[^#\n]*?)(?P<rest>[ \t]*(#.*)?)$", re.MULTILINE)
SOURCE = re.compile(r"\[[^\]]*\]|[^\s\[]+")
SIZE = "mode=0755,size=256k"
HIDDEN = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def resolv_conf_of(attachment: Fields) -> str:
    """The content of its resolv.conf, as the agent's answer has it."""
    dns = attachment.at("dns")
    nameservers = tuple(map(IPv4Address, dns.texts("nameservers")))
    return ResolvConf(nameservers, dns.texts("search"), dns.texts("options")).text


def bind_resolver(text: str) -> None:
    """Have this process find `text` in its /etc/resolv.conf. Call it single-threaded, after private_mounts().

    Raises OSError where the kernel refuses.
    """
    files = files_of(text)
    if os.path.lexists(ETC / RESOLV_CONF):
        bind(files)
    else:
        _overlay(files)
    if CACHE.is_dir():
        syscalls.mount("cellnet", str(CACHE), kind="tmpfs", flags=HIDDEN, options="mode=0755,size=4k")


def files_of(text: str) -> Mapping[str, str]:
    """What stands in /etc in place of what is there."""
    files = {RESOLV_CONF: text}
    with suppress(OSError):
        found = (ETC / NSSWITCH).read_text(errors="surrogateescape")
        wanted = own_nsswitch(found)
        if wanted != found:
            files[NSSWITCH] = wanted
    return files


def own_nsswitch(text: str) -> str:
    """An nsswitch.conf whose hosts come from files and DNS alone; all else stays."""
    return HOSTS.sub(_own_hosts, text)


def _own_hosts(found: re.Match[str]) -> str:
    words = SOURCE.findall(found["sources"])
    kept = list(_kept(words))
    return found[0] if kept == words else f"{found['name']} {' '.join(kept)}{found['rest']}"


def _kept(words: Sequence[str]) -> Iterator[str]:
    """What is left of them, with the reactions that belong to it. DNS is always asked."""
    is_kept, has_dns = False, False
    for word in words:
        if not word.startswith("["):
            is_kept, has_dns = word in OF_THE_CONTAINER, has_dns or word == "dns"
        if is_kept:
            yield word
    if not has_dns:
        yield "dns"


def bind(files: Mapping[str, str]) -> None:
    """Mount them over those of /etc. One that is a link is mounted over itself, and not what it leads to."""
    for name, tree in trees_of(files).items():
        try:
            syscalls.move_mount(tree, str(ETC / name))
        finally:
            os.close(tree)


def trees_of(files: Mapping[str, str]) -> dict[str, int]:
    """Name -> a mount of a file with that content, attached nowhere. /etc is out of sight for this moment."""
    syscalls.mount("cellnet", str(ETC), kind="tmpfs", flags=HIDDEN, options=SIZE)
    try:
        _write(files, ETC)
        return {name: syscalls.open_tree(syscalls.AT_FDCWD, str(ETC / name)) for name in files}
    finally:
        syscalls.umount(str(ETC))


def _write(files: Mapping[str, str], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_text(content, errors="surrogateescape")
        (folder / name).chmod(0o644)


def _overlay(files: Mapping[str, str]) -> None:
    """/etc as it is, with these files besides. What the command writes there stays its own."""
    host = syscalls.open_tree(syscalls.AT_FDCWD, str(ETC), recursive=True)
    try:
        syscalls.mount("cellnet", str(ETC), kind="tmpfs", flags=HIDDEN)
        lower, upper, work = (ETC / each for each in ("lower", "upper", "work"))
        for each in (lower, upper, work):
            each.mkdir()
        _write(files, upper)
        syscalls.move_mount(host, str(lower))
        upper.chmod(0o755)
        syscalls.mount("cellnet", str(ETC), kind="overlay", options=f"lowerdir={lower},upperdir={upper},workdir={work}")
    finally:
        os.close(host)
