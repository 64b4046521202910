"""Single chains and jumps of the legacy tables, written in this process by python-iptables: no tool is started.

Its Table objects are singletons that hold what they read last, so every change begins with reading anew. The caller holds
the xtables lock and is always the same thread.
"""

import re
from typing import Final

import iptc

from dataplane.plan import ChainDelta, JumpDelta
from host.errors import HostRefused

RULE: Final = re.compile(
    r"(?:-d (?P<destination>[0-9./]+) )?"
    r"(?:-p (?P<protocol>tcp|udp) )?"
    r"(?:-m mark --mark (?P<mark>0x[0-9a-f]+/0x[0-9a-f]+) )?"
    r"(?:-m (?P<match>tcp|udp) --dport (?P<port>[0-9:]+) )?"
    r"(?:-m connlimit --connlimit-above (?P<most>[0-9]+) --connlimit-mask (?P<mask>[0-9]+) --connlimit-saddr )?"
    r"-(?P<kind>[jg]) (?P<target>[A-Z0-9a-z-]+)"
)


def can_write(rule: str) -> bool:
    """Whether a rule, in iptables-save's words, is of the plain kinds that containers' chains and the way to them have."""
    return RULE.fullmatch(rule) is not None


def write(chains: ChainDelta, jumps: JumpDelta) -> None:
    """Write these chains and jumps, each table in one commit. Raises HostRefused, whatever the library raises; then that table
    is as it was."""
    names = sorted({key.table for key in (*chains.put, *jumps.put)})
    for name in names:
        try:
            _write_table(name, chains, jumps)
        except Exception as error:
            raise HostRefused(f"cannot change legacy table {name}: {error}", hint="see `iptables-legacy-save`") from error


def _write_table(name: str, chains: ChainDelta, jumps: JumpDelta) -> None:
    table = iptc.Table(name, autocommit=False)
    table.refresh()
    for key in sorted(key for key in chains.put if key.table == name):
        if not table.is_chain(key.chain):
            table.create_chain(key.chain)
    for key in sorted(key for key in chains.put if key.table == name):
        table.flush_entries(key.chain)
        chain = iptc.Chain(table, key.chain)
        for text in chains.put[key]:
            chain.append_rule(_rule(text))
    for key in sorted(key for key in jumps.put if key.table == name):
        chain = iptc.Chain(table, key.chain)
        for rule in [each for each in chain.rules if each.target.name == key.jump_target]:
            chain.delete_rule(rule)
        chain.insert_rule(_rule(f"-j {key.jump_target}"), position=0)
    table.commit()
    table.refresh()


def _rule(text: str) -> iptc.Rule:
    found = RULE.fullmatch(text)
    if found is None:
        raise HostRefused(f"cannot write the rule '{text}' in process")
    rule = iptc.Rule()
    if found["destination"]:
        rule.dst = found["destination"]
    if found["protocol"]:
        rule.protocol = found["protocol"]
    if found["mark"]:
        rule.create_match("mark").mark = found["mark"]
    if found["match"]:
        rule.create_match(found["match"]).dport = found["port"]
    if found["most"]:
        limit = rule.create_match("connlimit")
        limit.connlimit_above, limit.connlimit_mask, limit.connlimit_saddr = found["most"], found["mask"], ""
    rule.create_target(found["target"], goto=found["kind"] == "g")
    return rule
