"""Results -> terminal, JSON, HTML."""
