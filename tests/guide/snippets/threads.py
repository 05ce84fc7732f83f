"""Multi-threaded Processing: work for the processor goes to threads, the rest stays in the event loop."""

import hashlib
import threading

import aiohttp
from notebook import note

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pythia import Worker


class VerticalScaledWorker(Worker):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Create thread pool for CPU-intensive tasks
        self.executor = ThreadPoolExecutor(max_workers=4)

    async def process(self, message):
        # Offload CPU-intensive work to thread pool
        if message.headers.get("cpu_intensive"):
            loop = asyncio.get_event_loop()
            result = await loop.run_in_executor(
                self.executor,
                self.cpu_bound_task,
                message.body
            )
        else:
            result = await self.io_bound_task(message.body)
        return result

    def cpu_bound_task(self, data):
        # CPU-intensive synchronous processing
        return self.heavy_computation(data)

    async def io_bound_task(self, data):
        # Async I/O operations
        async with aiohttp.ClientSession() as session:
            return await self.call_api(session, data)

    def heavy_computation(self, data):
        digest = hashlib.pbkdf2_hmac("sha256", data["text"].encode(), b"salt", 1000).hex()
        note("computed", [threading.current_thread().name, data["id"]])
        return {"id": data["id"], "digest": digest}

    async def call_api(self, session, data):
        async with session.get(data["url"]) as answer:
            return {"id": data["id"], "answer": await answer.text()}
