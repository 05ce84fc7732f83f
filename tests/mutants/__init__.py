"""Shows that tests can fail: each guarantee of the engine, the line that keeps it, and the test that misses that line.

``nox -s mutants`` takes every line of :mod:`tests.mutants.table` out of a copy of the sources, one at a time, and runs
the test that stands beside it. A test that passes all the same guards nothing.
"""
