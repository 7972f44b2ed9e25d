"""The event-driven simulator: its layers, its kernels and what it counts."""
