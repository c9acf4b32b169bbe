"""Real Kafka and Elasticsearch servers on this machine, without containers."""
