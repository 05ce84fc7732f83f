"""Tests of the core's small modules, one file for each."""
