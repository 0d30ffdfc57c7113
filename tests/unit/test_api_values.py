# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the northbound API."""

from __future__ import annotations

import csv
import io
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.api import paths
from ran_datajobs.api.auth import choose
from ran_datajobs.api.jobs import cursor, place_of
from ran_datajobs.api.problems import as_known
from ran_datajobs.api.request_body import is_json
from ran_datajobs.api.results import cell, outcome_of
from ran_datajobs.api.security import host_name, known_hosts
from ran_datajobs.config import Settings
from ran_datajobs.errors import InvalidRequest, UnsupportedRequest
from ran_datajobs.model import OperationCounts, Response
from ran_datajobs.results.job_view import JobView, progress


@given(st.integers(0, 10**17), st.sampled_from("js"))
def test_a_cursor_names_its_place_again(place: int, kind: str) -> None:
    """A cursor decodes to the position that it was made of, whatever the position."""
    assert place_of(kind, cursor(kind, place)) == place


@given(st.text(max_size=40))
def test_a_foreign_cursor_is_refused(text: str) -> None:
    """Any other text is a position of the list or raises InvalidRequest."""
    try:
        place = place_of("j", text)
    except InvalidRequest:
        return
    assert place is not None
    assert cursor("j", place).rstrip("=") == text.rstrip("=")


def test_a_cursor_of_another_list_is_refused() -> None:
    """A sub-job cursor does not page through jobs."""
    with pytest.raises(InvalidRequest):
        place_of("j", cursor("s", 7))


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("TEXT/CSV", "text/csv"),
        ("application/json;q=0, */*", "application/x-ndjson"),
        ("text/html, */*;q=0.1", "application/json"),
        ("image/png", None),
        ("*/*;q=0", None),
        ("text/csv;q=oops", None),
        ("text/csv;q=nan", None),
        ("text/csv;q=nan, application/x-ndjson;q=0.5", "application/x-ndjson"),
    ],
)
def test_the_format_follows_accept(accept: str, chosen: str | None) -> None:
    """The best weight wins, the most specific range counts, and None means no acceptable one."""
    assert choose(accept, ("application/json", "application/x-ndjson", "text/csv")) == chosen


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/3gpp-json-patch+json", True),
        ("text/plain", False),
        ("application/jsonx", False),
        ("+json", False),
        ("application/+json", False),
        ("", False),
    ],
)
def test_json_media_types(content_type: str, json: bool) -> None:
    """application/json and every +json type are JSON; nothing else is."""
    assert is_json(content_type) is json


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Example.ORG:8080", "example.org"),
        ("example.org.", "example.org"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("[::1", ""),
        ("[::1]x", ""),
        ("localhost:http", ""),
        ("127.0.0.1", "127.0.0.1"),
        ("evil.test:80@localhost", ""),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(authority: str, host: str) -> None:
    """Case, port and the final dot are ignored. A text that is no authority has no host."""
    assert host_name(authority) == host


PARAMETERS = ("destination", "dryRun")
ONE_DAY = {"basedon": "basedOn"}
SPELLINGS = st.sampled_from(
    ["dryRun", "dryrun", "DRYRUN", "%64ryRun", "dryRun+", "d+ryRun", "Destination", "x", ""]
)
VALUES = st.sampled_from(["", "=", "=true", "=a%26b", "=a=b", "=%C3%BC", "=\u00fc"])


@given(st.lists(st.tuples(SPELLINGS, VALUES).map("".join), max_size=4))
def test_a_query_is_spelt_as_the_route_knows_it_or_refused(pieces: list[str]) -> None:
    """Each name matches in any case and occurs once, with its value unchanged; otherwise the query is
    refused."""
    query = "&".join(pieces).encode("latin-1")
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    known = {name.lower(): name for name in PARAMETERS}
    spelt = [(known.get(name.lower()), value) for name, value in given]
    try:
        found = as_known(query, PARAMETERS, {})
    except InvalidRequest as error:
        names = [name for name, _ in spelt]
        assert error.problems
        assert None in names or len(set(names)) < len(names)
    else:
        assert parse_qsl(found.decode("latin-1"), keep_blank_values=True) == spelt
        assert len(dict(spelt)) == len(spelt)


def test_what_is_not_offered_yet_is_told_where_it_is_asked_for() -> None:
    """Only by the call that will have it. For any other call the parameter is unknown."""
    with pytest.raises(UnsupportedRequest, match="basedOn"):
        as_known(b"BASEDON=x&dryRun=true", PARAMETERS, ONE_DAY)
    with pytest.raises(InvalidRequest, match="parameter"):
        as_known(b"basedOn=x", PARAMETERS, {})


def test_known_hosts_are_loopback_the_root_and_the_allowed_ones() -> None:
    """Loopback names, the host of the API root and the configured names are known, and nothing else."""
    assert known_hosts("https://API.example.org:8443/x", ("Other.example.org", "")) == {
        "localhost",
        "127.0.0.1",
        "[::1]",
        "api.example.org",
        "other.example.org",
    }


@given(st.text(max_size=20))
def test_no_cell_is_a_formula(text: str) -> None:
    """After a round trip through CSV no cell begins with a character of a formula."""
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell(text)])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline="")) if text else ([""],)
    assert not row[0].startswith(("=", "+", "-", "@"))
    assert row[0].removeprefix("'") == text.removeprefix("'")


def test_a_failure_tells_the_plugins_word_when_we_have_no_reason() -> None:
    """If the service has no reason, the error's own reason, title and detail are shown."""
    response = msgspec.json.decode(
        b'{"operationId": 7, "statusCode": 108, "statusMessage": "no", "state": "FAILED",'
        b'"request": {"op": "merge", "path": "/A=1"},'
        b'"errors": [{"type": "APPLICATION_LAYER_ERROR", "badDataNode": "/A=1", "title": "read only"}]}',
        type=Response,
    )
    failure = outcome_of(response, None, {})
    assert failure.operation_id == 7
    assert (failure.op, failure.path, failure.state) == ("merge", "/A=1", "FAILED")
    assert failure.reason == "APPLICATION_LAYER_ERROR"
    assert failure.detail == "read only"


def test_a_failure_without_a_readable_request_is_told_anyway() -> None:
    """An unusual request in a plugin's response hides no failure."""
    response = Response(operation_id="1", status_code=108, status_message="no", request=msgspec.Raw(b"[1]"))
    assert outcome_of(response, None, {}).path == ""


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_progress_is_100_in_a_terminal_job_only(total: int, pending: int) -> None:
    """progressPercentage is between 0 and 99 while the job runs, whatever the counts are."""
    counts = OperationCounts(total, 0, 0, 0, 0, 0, min(pending, total))
    assert 0 <= progress(counts, terminal=False) <= 99
    assert progress(counts, terminal=True) == 100


def test_addresses_are_made_from_the_root() -> None:
    """statusuri and resultsuri are absolute and have the published form."""
    job_id = uuid4()
    view = JobView(Settings(api_root="https://api.example.org/base"))
    assert view.job_uri(job_id) == f"https://api.example.org/base/ranoam/cm/v1/dataJob/{job_id}"
    assert view.results_uri("b", job_id) == f"https://api.example.org/base/s3-bucket/b?jobId={job_id}"


def test_paths_are_filled_and_encoded() -> None:
    """A value cannot leave its segment of a path."""
    assert paths.fill(paths.TOPIC_MESSAGES, topic="a?b#c") == "/ranoam/cm/v1/topics/a%3Fb%23c/messages"
