"""Redis Streams, by the plugin pythia-redis."""

try:
    from pythia_redis import *
    from pythia_redis import __all__  # noqa: F401 - handed on
except ModuleNotFoundError as error:
    from pythia_core.doors import closed

    raise closed("pythia_redis", error) from error
