"""The RabbitMQ plugin, on real nodes."""
