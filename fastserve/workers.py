"""The worker classes for gunicorn, where uvicorn had its own: `-k fastserve.workers.FastserveWorker`."""

from fastserve.gunicorn import FastserveH11Worker, FastserveWorker

__all__ = ["FastserveH11Worker", "FastserveWorker"]
