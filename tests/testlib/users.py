"""A user without rights, who can still read this checkout where it is below a closed folder."""

READ = "+dac_read_search"
NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={READ}", f"--ambient-caps={READ}", "--",
)  # fmt: skip
