"""Real brokers for tests and benchmarks, each its own process on a port of its own.

    from tests.servers.redis import RedisServer

    with RedisServer(durable=True) as server:
        server.kill()
        server.restart()

Only `fixtures` knows pytest. A new broker is a module with a subclass of `Server`, a fixture, a marker, and a line
in the noxfile's table of brokers.
"""
