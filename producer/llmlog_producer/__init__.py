"""The gateway side: LiteLLM's payloads become Avro events on a Kafka topic."""
