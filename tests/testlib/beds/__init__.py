"""One part of a cell each, with what it needs of the kernel and no agent around it."""
