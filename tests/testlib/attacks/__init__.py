"""What an attacker does, what is attacked, and what shall go on beside it."""
