"""What happens on the cell and why."""
