"""What is measured: cells, containers and paths between them, alike in everything but what a script compares."""
