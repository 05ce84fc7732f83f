"""How fast Pythia is, as a ratio to the bare client library in the same run: `python -m bench`.

A bench is a module with `BENCHES`; each of its contenders is a coroutine function that `harness` runs in a process of
its own. A contender joins by being written and named in its bench; a new bench is one line in `__main__`.
"""
