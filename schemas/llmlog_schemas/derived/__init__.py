"""Fields that are derived from LiteLLM's payload: their table, and what computes them."""
