"""What policies are, what they mean, what a change of them would do, and changing them."""
