"""Tests of plugins: how they are found, blocked, asked, and what is said of those that are broken."""
