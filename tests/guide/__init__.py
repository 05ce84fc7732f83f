"""The user's guide, snippet by snippet, on real brokers."""
