"""Tests of the Redis plugin against a real server."""
