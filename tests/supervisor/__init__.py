"""The supervisor: its decisions without processes, and its processes on real pipes, signals and terminals."""
