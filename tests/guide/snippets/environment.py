"""Configuration Management: settings by the environment that a worker runs in."""

import os

from pythia.config import WorkerConfig


def get_scaling_config():
    """Get configuration optimized for current environment"""
    env = os.getenv("ENVIRONMENT", "development")

    if env == "production":
        return WorkerConfig(
            batch_size=1000,
            max_concurrent_tasks=50,
            max_memory_mb=2048,
        )
    elif env == "staging":
        return WorkerConfig(
            batch_size=500,
            max_concurrent_tasks=25,
            max_memory_mb=1024,
        )
    else:
        return WorkerConfig(
            batch_size=100,
            max_concurrent_tasks=10,
            max_memory_mb=512,
        )
