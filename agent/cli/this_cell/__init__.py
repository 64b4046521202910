"""The cell itself: what runs, how it is, its settings and its state."""
