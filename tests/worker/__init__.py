"""The worker class, what loads it, and what runs one."""
