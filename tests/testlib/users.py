"""A user without rights, who can still read this checkout where it is below a closed folder."""

READ = "+dac_read_search"
_SEES = ("--clear-groups", f"--inh-caps={READ}", f"--ambient-caps={READ}", "--")
NUMBER = 65534
NOBODY = ("setpriv", f"--reuid={NUMBER}", f"--regid={NUMBER}", *_SEES)
READER = ("setpriv", f"--reuid={NUMBER}", "--regid=cellnet", *_SEES)
"""The same in the group that may look."""
