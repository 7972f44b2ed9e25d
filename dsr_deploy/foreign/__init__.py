"""Networks that were trained elsewhere, as floats: read, simulated and composed."""
