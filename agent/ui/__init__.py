"""The page of `cellnet ui`: served by the process of the one who calls it, with that user's rights over the agent's socket."""
