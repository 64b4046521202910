"""What must outlive the agent: the store that all cells share, and the cell's own ledger of attachments."""
