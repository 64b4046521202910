"""This machine and nothing of cellnet: files, links, namespaces, processes, settings, system calls."""
