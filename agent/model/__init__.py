"""Values that the parts of the agent share. They know no file, no kernel and no store."""
