"""Questions for names, and name servers of the outside."""
