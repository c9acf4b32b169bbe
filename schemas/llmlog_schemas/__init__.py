"""The event that gateway and consumer share: its fields, its conversion, its encoding."""
