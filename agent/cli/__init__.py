"""The command line. Modules here import what is slow only where it is used, so that `--help` and `ps` stay quick."""
