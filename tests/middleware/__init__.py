"""Middleware that comes with the core; what it keeps on a server is tested with that server's plugin."""
