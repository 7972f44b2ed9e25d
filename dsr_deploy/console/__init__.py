"""The command line: parsing, printing, and the errors of commands."""
