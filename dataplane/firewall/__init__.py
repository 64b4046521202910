"""The rules: each table of iptables is a file, read from the top as a packet meets it."""
