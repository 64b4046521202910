"""What `make bench` measures: scripts `bench_*.py`, each with a table on the screen and its JSON in `bench/results`."""
