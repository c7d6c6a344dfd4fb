"""One worker: a process, or a whole server with `--workers 1`, with its event loop and the application."""
