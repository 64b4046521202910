"""What was measured: figures, how they compare, and how they are shown and kept."""
