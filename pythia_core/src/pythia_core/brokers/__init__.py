"""Brokers that the core brings along: the one in memory. All others are plugins."""
