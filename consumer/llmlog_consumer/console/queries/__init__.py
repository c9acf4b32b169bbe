"""The questions that the console asks Elasticsearch, and what the answers mean."""
