"""The addresses of the control API, a module for each subject: its bodies, its views, and what answers.

Every handler raises the errors of agent/errors.py and nothing else; any other exception is answered as a Bug. A handler is
cancelled when it takes longer than the server's limit or when the agent stops: an attach must then undo what it began.
"""
