"""Train spiking networks with DSR, and take them to a neuromorphic chip without loss."""

__version__ = "0.1.0"
