"""How to speak netlink: the socket, and the layout of its messages. What to say stands with each subject."""
