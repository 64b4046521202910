"""What was refused or passed by an audit alone: whose packet or call it was, and why."""
