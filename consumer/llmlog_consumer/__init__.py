"""The consumer side: Kafka records become Elasticsearch documents or dead letters."""
