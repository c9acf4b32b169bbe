"""What waits, and for what: the whole deployment, one index, the schema of an id."""
