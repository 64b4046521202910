"""Live connections: found in conntrack, judged against the HostState, and cut when nothing permits them any longer."""
