"""`policy`: which apps may reach which."""
