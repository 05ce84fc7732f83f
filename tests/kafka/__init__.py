"""The plugin for Apache Kafka, on real brokers."""
