"""The OpenAI-compatible API over any `Generator`."""
