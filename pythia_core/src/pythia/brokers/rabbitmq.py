"""RabbitMQ, by the plugin pythia-rabbitmq."""

try:
    from pythia_rabbitmq import *
    from pythia_rabbitmq import __all__  # noqa: F401 - handed on
except ModuleNotFoundError as error:
    from pythia_core.doors import closed

    raise closed("pythia_rabbitmq", error) from error
