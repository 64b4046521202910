"""What asks the outside for names of hosts, between dnsmasq and the name servers out there: a process of its own, which has no
right over the kernel. An address is in the sets that rules name before an app hears of it, since the agent is asked first.
"""
