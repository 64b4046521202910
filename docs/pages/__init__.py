"""Pages of the documentation that programs write: `python -m docs.pages` writes them anew."""
