"""Tests of fastserve.wire: bytes in, events out, and back. No I/O and no clock."""
