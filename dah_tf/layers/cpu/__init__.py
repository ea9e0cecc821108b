"""Faster ways for a CPU to compute what the layers compute. The values are the same."""
