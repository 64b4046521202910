"""The cell's dnsmasq: how it is started, whether it answers, and what it asks of the outside."""
