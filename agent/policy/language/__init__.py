"""What a policy says: from the text of a file, of the store or of a command line to a value, and back."""
