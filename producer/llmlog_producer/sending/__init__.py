"""From the queue to Kafka."""
