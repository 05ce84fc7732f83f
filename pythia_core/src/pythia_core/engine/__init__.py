"""The engine: a message's way from fetch to settlement, as ARCHITECTURE.md draws it."""
