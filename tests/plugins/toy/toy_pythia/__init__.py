"""A plugin for tests, as a stranger would write it: it implements each contract in the smallest way."""
