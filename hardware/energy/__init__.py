"""Energy per inference: published constants, what they make of the counts, and hops."""
