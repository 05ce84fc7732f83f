"""Testing Scaling: ten processes of one worker under a steady load."""

import asyncio

from worker import OrderProcessor

from pythia.testing import LoadTester


async def test_horizontal_scaling():
    """Test worker performance with multiple instances"""
    load_tester = LoadTester(
        worker_class=OrderProcessor,
        num_workers=10,
        messages_per_second=1000,
        duration_seconds=300,
    )

    results = await load_tester.run()

    assert results.avg_throughput > 800  # msg/sec
    assert results.avg_latency < 0.1  # 100ms
    assert results.error_rate < 0.01  # 1%
