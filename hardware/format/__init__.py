"""The file of an integer network: what it holds, and reading it with care."""
