"""Envoy as one more table of the host: a HostState becomes resources, resources go to Envoy by delta ADS.

`resources` is pure, `subscription` is the protocol without a socket, `ads` the server, `bootstrap` how Envoy is started,
`admin` and `listening` are how we look at what it really does.
"""
