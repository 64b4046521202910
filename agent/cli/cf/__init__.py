"""The words of Cloud Foundry's command line, for users who know them: each is one of cellnet's own commands, said otherwise."""
