"""How fast Pythia is, as a ratio to the bare client library in the same run: `python -m bench`.

A bench is a module with `BENCHES`: races (`harness.Bench`), whose contenders do the same work in turns, and probes
(`probe.Probe`), whose subjects measure figures of their own. Each turn is a process of its own. A contender joins by being
written and named in its bench; a new bench is one line in `__main__`.
"""
