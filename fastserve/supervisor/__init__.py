"""The parent process: sockets, and the fleet of workers."""
