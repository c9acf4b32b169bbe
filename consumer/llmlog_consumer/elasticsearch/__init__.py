"""All that knows Elasticsearch."""
