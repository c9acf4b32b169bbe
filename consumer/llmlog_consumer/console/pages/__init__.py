"""The pages of the console: each handler takes a request and returns a response."""
