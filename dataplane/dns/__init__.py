"""dnsmasq: what it is told on its command line and in its folder of names, and what one container may ask of it."""
