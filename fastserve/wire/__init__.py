"""Protocols without I/O: bytes in, events out; responses in, bytes out."""
