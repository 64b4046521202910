"""How to speak netlink: the socket, and the layout of its messages. The requests stand with their subjects."""
