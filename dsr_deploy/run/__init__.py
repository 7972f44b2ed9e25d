"""The run directory: its files, and how they are written, sealed and read."""
