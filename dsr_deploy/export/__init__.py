"""The integer network in the formats that others read."""
