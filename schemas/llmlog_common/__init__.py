"""What gateway and consumer share beside the schemas: settings, errors, Kafka clients, logging."""
