"""Chaos: real workers and a real broker under random faults, and a judge who knows only what was written down.

    nox -s chaos                                  ten minutes on Redis
    python -m tests.chaos --seconds 60 --seed 7   another length, the same faults again
    python -m tests.chaos --check FOLDER          judge a history once more

The parts are those of Jepsen: a `generator` that knows what it was promised, `pythia run` as anybody starts it
(`fleet`, `worker`), a `nemesis` with a seed, an observer who asks the broker (`run`), and a `checker`, a pure function
over their `events`. A new broker is a subclass of `broker.Broker` and a line in its table.
"""
