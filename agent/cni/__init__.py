"""The plugins of container engines: small programs that ask the agent once for each container."""
