"""The supervisor: keeps N worker processes running, stops them gently, and shows them as one.

It never imports a worker's code, so that nothing in it can break the one process that has to stay up. ``machine``
decides and ``shell`` does; ``child`` is the main program of a worker process and ``link`` its end of the pipe.
This file imports nothing, so that the first process of a container catches signals before anything heavy is loaded.
"""
