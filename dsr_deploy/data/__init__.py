"""Data sets, as the uint8 pixels on disk and as the int8 payloads that every stage sees."""
