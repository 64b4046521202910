"""What the agent did and saw, and who has changed which policies: kept over restarts."""
