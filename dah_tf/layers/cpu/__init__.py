"""Layers' arithmetic in the forms that a CPU computes fastest; the values are the same."""
