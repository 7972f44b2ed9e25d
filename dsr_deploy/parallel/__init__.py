"""Several processes that share the work on one run."""
