"""What a server writes when its application has replaced the handlers of uvicorn's loggers."""

from __future__ import annotations

from pathlib import Path

from .running import WORKERS, Start, new_client

REPLACES_HANDLERS = """
import logging
import sys

from served import app


class Mine(logging.Handler):
    def emit(self, record):
        sys.stderr.write(f"mine: {record.getMessage()}\\n")


for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
    logger = logging.getLogger(name)
    logger.handlers = [Mine()]
    logger.propagate = False
"""


@WORKERS
def test_what_a_worker_says_goes_once_to_the_handler_of_the_application(
    start: Start, folder: Path, workers: str
) -> None:
    (folder / "replacing.py").write_text(REPLACES_HANDLERS)
    server = start("replacing:app", "--port", "0", "--workers", workers).wait_ready()
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    assert server.stop() == 0
    for text in ("Started server process", "Application startup complete", "Finished server process"):
        assert server.log.count(text) == server.log.count(f"mine: {text}") == int(workers)
    assert (server.log.count("GET / HTTP/1.1"), server.output) == (1, "")
