"""Supervised deep hashing: images in, short binary codes out."""

__version__ = "0.2.0"
