"""`cellnet doctor`: looks at a host and changes nothing."""
