"""Sets of addresses and networks that rules name, and what fills those of names of hosts outside."""
