"""Asking a model: one protocol, and the local, GGUF and HTTP back ends behind it."""
