"""Stores: an etcd, what is in it, and what becomes of it."""
