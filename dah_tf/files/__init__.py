"""Durable writes of complete files, and JSON with a checksum. Standard library only."""
