"""What happens on the cell and why: for people, programs and the browser."""
