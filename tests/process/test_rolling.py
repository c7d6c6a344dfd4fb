"""Three instances behind HAProxy are replaced without a request lost (see rolling.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .proxies import needs_haproxy
from .rolling import Network, can_make_namespaces, happen, kill, loopback, namespaces, roll

pytestmark = needs_haproxy


@pytest.fixture(params=["namespaces", "loopback"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Make a network of each kind."""
    if request.param == "loopback":
        with loopback() as network:
            yield network
    elif not can_make_namespaces():
        pytest.skip("network namespaces need ip (apt-get install iproute2) and its privileges")
    else:
        with namespaces() as network:
            yield network


def test_a_rolling_update_loses_no_request(network: Network, tmp_path: Path) -> None:
    outcome = happen(roll, network, tmp_path)
    assert outcome.failed == {}


def test_a_killed_instance_loses_what_it_was_doing_and_nothing_after_that(network: Network, tmp_path: Path) -> None:
    outcome = happen(kill, network, tmp_path)
    assert sum(outcome.failed.values()) <= 40, outcome.failed
