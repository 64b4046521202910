"""Words that tests share."""
