"""The files of a network that leave for a chip or another tool."""
