"""Load tests, tested."""
