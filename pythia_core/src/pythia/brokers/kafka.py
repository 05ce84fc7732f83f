"""Apache Kafka, by the plugin pythia-kafka."""

try:
    from pythia_kafka import *
    from pythia_kafka import __all__  # noqa: F401 - handed on
except ModuleNotFoundError as error:
    from pythia_core.doors import closed

    raise closed("pythia_kafka", error) from error
