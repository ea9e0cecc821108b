"""The devices, processor cores and memory of the machine."""
