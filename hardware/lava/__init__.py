"""The integer network in Lava's own runtime; runs under Python 3.10 with lava-nc alone."""
