"""Shared by gateway and consumer beside the schemas: settings, errors, Kafka clients, logging."""
