"""An instance's identity: its names, its certificate, when that is renewed, and where it is kept."""
