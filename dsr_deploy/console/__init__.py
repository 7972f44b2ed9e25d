"""The command line: what is read from it, and what is printed."""
