"""What the machine offers: devices, cores and memory."""
