"""Pythia's own tests. A package, so that tests and benchmarks import one way to start a broker: tests.servers."""
