"""The brokers: one door for each, which says what to install if there is nothing behind it."""
