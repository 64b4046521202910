"""Envoy's sockets in the containers' namespaces, and those beside them, in the kernel's own tables."""
