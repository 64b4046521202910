"""Words that tests share: those of a subject in a folder of it, and here what any test may need."""
