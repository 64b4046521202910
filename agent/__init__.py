"""Decides what this cell should look like, from its settings, policies, store and attachments; `dataplane` makes it so."""
