"""The version of fastserve. Setuptools reads it, and so it imports nothing."""

VERSION = "0.1.0"
