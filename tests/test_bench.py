"""The benchmarks: that what they tell is computed right. That they run, `make bench-quick` shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import results
from bench.client import _is_whole, percentile
from bench.measure import Sample, median
from bench.results import FIGURES, disturbance, table, times_better
from bench.scenarios import ROUTES_DEFAULTS, SCENARIOS, SUMMARIES
from bench.servers import SERVERS, Mode

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SLOW = Sample(requests_per_s=100, mean_us=2000, p99_us=4000, cpu_us=50, memory_bytes=1e6, errors=0)
FAST = replace(SLOW, requests_per_s=400, mean_us=500, p99_us=400, cpu_us=10)


def test_a_scenario_names_servers_and_figures_that_there_are() -> None:
    for name, scenario in SCENARIOS.items():
        assert name == scenario.name
        assert set(scenario.servers) <= set(SERVERS)
        assert set(scenario.figures) <= set(FIGURES)
        assert scenario.servers[0] == "fastserve"


def test_the_page_has_a_place_for_each_scenario() -> None:
    places = re.findall(r"<!-- bench: ([a-z0-9-]+) -->", PAGE.read_text("utf-8"))
    alone = SCENARIOS.keys() - set(ROUTES_DEFAULTS)
    assert sorted(places) == sorted(["about", *SUMMARIES, *alone])


def test_summaries_are_of_scenarios() -> None:
    assert all(set(names) <= SCENARIOS.keys() for names in SUMMARIES.values())


@pytest.mark.parametrize(("figure", "times"), [("requests_per_s", 4), ("mean_us", 4), ("p99_us", 10), ("cpu_us", 5)])
def test_better_is_more_requests_or_less_of_the_rest(figure: str, times: float) -> None:
    assert times_better([FAST], [SLOW], figure) == pytest.approx(times)
    assert times_better([SLOW], [FAST], figure) == pytest.approx(1 / times)


def test_ratios_are_those_of_each_round() -> None:
    # The machine was ten times slower in the second round, for both.
    hampered = [replace(each, cpu_us=each.cpu_us * 10) for each in (FAST, SLOW)]
    assert times_better([FAST, hampered[0]], [SLOW, hampered[1]], "cpu_us") == pytest.approx(5)
    assert median([FAST, hampered[0], FAST]).cpu_us == 10


def test_a_table_compares_with_the_first_server() -> None:
    assert table({"ours": [FAST], "theirs": [SLOW]}, ("requests_per_s", "cpu_us", "errors")).splitlines() == [
        "| server | requests/s | CPU µs/request | errors |",
        "|---|---:|---:|---:|",
        "| ours | 400 | 10.0 | 0 |",
        "| theirs | 100 (4.00x) | 50.0 (5.00x) | 0 |",
    ]


def test_a_disturbed_measurement_is_told() -> None:
    assert disturbance({"ours": [FAST]}) is None
    assert "30%" in str(disturbance({"ours": [replace(FAST, foreign_share=0.3)]}))


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.write(path, {"rounds": 2}, {"json": {"ours": [FAST, SLOW]}})
    assert results.read(path) == ({"rounds": 2}, {"json": {"ours": [FAST, SLOW]}})


def test_modes_change_only_what_a_server_is_told() -> None:
    uvicorn = SERVERS["uvicorn"]
    assert "--no-access-log" in uvicorn.arguments("a:b", 80, Mode.QUIET)
    assert "--no-access-log" not in uvicorn.arguments("a:b", 80, Mode.DEFAULTS)
    assert uvicorn.arguments("a:b", 80, Mode.PATIENT)[-2:] == ["--timeout-keep-alive", "600"]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: a\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize(("received", "is_whole"), [(HEAD[:-1], False), (HEAD + b"ab", False), (HEAD + b"abc", True)])
def test_a_response_is_whole_with_its_last_byte(received: bytes, is_whole: bool) -> None:
    assert _is_whole(received) is is_whole


def test_another_status_ends_the_measurement() -> None:
    with pytest.raises(RuntimeError, match="503"):
        _is_whole(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(value) for value in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([1.0], 0.99)) == (50, 99, 1)
