"""etcd has lost its data: how that is known, what is written back, what is held, and until when."""
