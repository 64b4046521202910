"""Why a connection passes or does not, step by step on its way; nothing is sent for it."""
