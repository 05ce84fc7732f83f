"""Whole runs as a user makes them: the real command, real processes, a real broker, and a count made independently."""
