"""Links, addresses, routes, neighbours and the tunnel: each a table that is read, compared and written by netlink."""
