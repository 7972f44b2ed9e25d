"""The stages that take a network from training to a chip, each on a run directory."""
