"""What was counted, as numbers, tables and plots."""
