"""What requests and responses mean to an ASGI application."""
