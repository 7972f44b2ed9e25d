"""What runs an integer network on payloads, and how engines are compared."""
