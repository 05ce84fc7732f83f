"""Tests of what becomes of dead letters once they are written."""
