"""The run directory: its files, how they are written, sealed and read."""
