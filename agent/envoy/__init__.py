"""Envoy as a process that this cell depends on: started, followed, relieved, and handed over to a newer one."""
