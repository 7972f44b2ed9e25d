"""Networks that were trained elsewhere, as floats: read and simulated."""
