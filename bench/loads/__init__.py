"""What measures: callers with a clock, loads, and what goes on beside them."""
