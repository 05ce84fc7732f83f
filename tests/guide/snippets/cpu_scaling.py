"""CPU-Based Scaling: a worker that says by itself whether more processes would help."""

import psutil

from pythia import Worker


class AutoScalingWorker(Worker):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cpu_threshold = 80.0
        self.scale_check_interval = 60  # seconds

    async def should_scale_up(self):
        cpu_percent = psutil.cpu_percent(interval=1)
        return cpu_percent > self.cpu_threshold

    async def should_scale_down(self):
        cpu_percent = psutil.cpu_percent(interval=1)
        return cpu_percent < 30.0
