"""Records to outcomes."""
