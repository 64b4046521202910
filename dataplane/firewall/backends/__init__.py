"""How rules get into the kernel, and are read back: nft and legacy, each by its tools."""
