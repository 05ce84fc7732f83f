"""The engine: its core against a model, and its behaviour with the broker in memory on both event loops."""
