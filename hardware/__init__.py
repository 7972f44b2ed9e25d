"""The network that a chip runs: integers only, numpy and numba, no torch."""
