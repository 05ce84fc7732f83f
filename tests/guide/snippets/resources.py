"""Resource Configuration: every setting that the guide names."""

from pythia.config import WorkerConfig

# High-performance worker configuration
config = WorkerConfig(
    # Increase batch processing
    batch_size=500,
    batch_timeout=2.0,
    # Optimize memory usage
    max_memory_mb=2048,  # 2GB limit
    # Increase concurrency
    max_concurrent_tasks=20,
    # Connection pooling
    max_connections=50,
)
