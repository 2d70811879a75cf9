"""One file per op: its fake kernel, its derivatives and vmap rule, and the public typed function."""
