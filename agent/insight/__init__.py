"""What happens on the cell and why: flows, refusals, uses of policies, and a history of changes."""
