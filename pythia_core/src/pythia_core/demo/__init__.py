"""The demonstration behind ``pythia demo``: a small shop whose orders must be charged once each, and its auditor.

It stands apart from the command, which reads options and prints. :mod:`.orders` says what is sent, :mod:`.payments` is the
service that the worker in :mod:`.worker` calls, :mod:`.shop` runs it all, and :mod:`.audit` judges by what the broker and
the payment service have, never by what the engine says of itself.
"""
