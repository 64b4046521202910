"""What asks the agent through its socket, and reads its answers."""
