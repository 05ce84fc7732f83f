"""Tests of the command line, as a user and as a program meet it."""
