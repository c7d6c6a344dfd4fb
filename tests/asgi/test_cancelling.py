"""Cancelling requests whose clients have gone away (--cancel-on-disconnect)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.doubles import Peer, PlayedApp, Rig, request, turns, until


class Waiting:
    """An application that waits for ever, and tells how that ended."""

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def leave(peer: Peer, how: str) -> None:
    if how == "FIN":
        peer.end()
    else:
        peer.reset()


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_call_is_cancelled_some_time_after_its_client_left(how: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Waiting()
    rig = Rig(app, cancel_on_disconnect=0.05)
    peer = rig.connect()
    peer.send(request("/slow"))
    await until(lambda: app.running)
    leave(peer, how)
    await turns()
    assert app.running, "it has that time"
    await until(lambda: app.cancelled)
    await rig.application.wait_idle()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_without_the_option_nothing_is_cancelled() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    peer.send(request())
    await turns()
    peer.reset()
    await turns()
    assert rig.application.running == 1
    app.calls[0].end()
    await rig.application.wait_idle()


async def test_a_call_that_answers_in_time_is_not_cancelled() -> None:
    after: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})
        await asyncio.sleep(0.05)
        after.append("background")

    rig = Rig(app, cancel_on_disconnect=0.01)
    peer = rig.connect()
    peer.send(request())
    peer.end()
    await rig.application.wait_idle()
    assert (after, peer.received[-4:]) == (["background"], b"done")


async def test_a_call_whose_client_stays_is_not_cancelled() -> None:
    app = PlayedApp()
    rig = Rig(app, cancel_on_disconnect=0)
    staying, leaving = rig.connect(), rig.connect()
    staying.send(request("/stays"))
    leaving.send(request("/leaves"))
    await turns()
    leaving.reset()
    await until(lambda: rig.application.running == 1)
    await app.calls[0].respond(b"still here")
    assert staying.received.endswith(b"still here")
