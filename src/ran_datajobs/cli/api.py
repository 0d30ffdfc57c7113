# SPDX-License-Identifier: Apache-2.0
"""HTTP client of the northbound API for the commands."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from ran_datajobs.config import Settings
from ran_datajobs.errors import DataJobsError, ServerUnreachable, UsageError
from ran_datajobs.model import Status, read_status

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
SILENCE: Final = 60.0
"""Timeout in seconds of a read from the service."""

RECONNECT_WITHIN: Final = 60.0
"""Seconds within which a broken stream of events must be re-established."""

_MAX_ANSWER: Final = 256 << 20
_SHOWN_PROBLEMS: Final = 5
_SHOWN_JOBS: Final = 5
_BEGINNING: Final = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{0,35}")
_BUSY: Final = frozenset({429, 502, 503, 504})


class Api:
    """Client of one service. Every call opens a new connection.

    A client error (4xx) raises UsageError with the detail of the answer; a service that is unavailable or
    busy, or that fails, raises ServerUnreachable.
    """

    def __init__(self, settings: Settings) -> None:
        self.server = settings.server
        self._parts = urlsplit(settings.server)
        self._token = settings.token

    def get(self, path: str, **query: Any) -> Any:
        """GET and return the JSON; parameters that are ``None`` are left out."""
        return self.call("GET", path, query=query)[1]

    def post(
        self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, **query: Any
    ) -> Any:
        """POST and return the JSON of the answer; ``None`` if it has no body."""
        return self.call("POST", path, query=query, body=body, headers=headers)[1]

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        also: int | None = None,
    ) -> tuple[int, Any]:
        """Send a request and return the status and the JSON of the answer. ``also``: a status of 400 or more
        that is an answer, too, unless its body is a problem."""
        with self.open(method, path, query=query, body=body, headers=headers, also=also) as answer:
            data = _read(answer, self.server)
        return answer.status, (_json(data, self.server) if data else None)

    def fetch(self, path: str) -> bytes:
        """GET and return the body unchanged."""
        with self.open("GET", path) as answer:
            return _read(answer, self.server)

    def save(self, file: IO[bytes], method: str, path: str, body: bytes) -> None:
        """Send a request and write the body of the answer to ``file``."""
        with self.open(method, path, body=body) as answer:
            try:
                shutil.copyfileobj(answer, file)
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(self.server, error) from error
        file.flush()

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        also: int | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield the answer, unread. Raises if its status is 400 or more, unless it is
        ``also`` with JSON that is no problem."""
        # Problems name the places of faults, which the error bodies below NCMP's paths do not.
        sent = {"Accept": f"{JSON}, {PROBLEM_JSON}", "User-Agent": "datajobs"} | dict(headers or {})
        if body:
            sent.setdefault("Content-Type", JSON)
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = (
            self._parts.path
            + path
            + (
                ("&" if "?" in path else "?") + urlencode(given, doseq=True, errors="surrogateescape")
                if given
                else ""
            )
        )
        connection = self._connection()
        try:
            try:
                connection.request(method, target, body=body, headers=sent)
                answer = connection.getresponse()
                expected = answer.status == also and answer.headers.get_content_type() == JSON
                if answer.status >= 400 and not expected:
                    raise _refusal(answer.status, answer.read(1 << 20), self.server)
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(self.server, error) from error
            yield answer
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(host, self._parts.port, timeout=SILENCE, context=trusted)
        return http.client.HTTPConnection(host, self._parts.port, timeout=SILENCE)

    # --- events --------------------------------------------------------------------------------------

    def events(
        self, path: str, *, patience: float = RECONNECT_WITHIN
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and data of each event of a job, up to the ``status`` event of its terminal status.

        A broken stream resumes after the last event received. Raises ServerUnreachable when the service is
        unavailable for ``patience`` seconds.
        """
        last_id: str | None = None
        lost_at: float | None = None
        pause = 0.2
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
            try:
                with self.open("GET", path, headers=headers) as answer:
                    for name, event_id, data in _server_sent(answer, self.server):
                        last_id, lost_at, pause = event_id or last_id, None, 0.2
                        yield name, data
                        status = read_status(data.get("status"))
                        if name == "status" and status is not None and status.terminal:
                            return
            except ServerUnreachable:
                now = time.monotonic()
                lost_at = lost_at or now
                if now - lost_at > patience:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _server_sent(
    answer: http.client.HTTPResponse, server: str
) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Yield the name, id and data of each event (WHATWG HTML, server-sent events)."""
    fields: dict[str, str] = {}
    while True:
        try:
            line = answer.readline(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(server, error) from error
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("event", "message"), fields.get("id"), _json(fields["data"].encode(), server)
            fields = {}


def _read(answer: http.client.HTTPResponse, server: str) -> bytes:
    try:
        data = answer.read(_MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(server, error) from error
    if len(data) > _MAX_ANSWER:
        raise ServerUnreachable(f"the answer of {server} is larger than {_MAX_ANSWER} bytes")
    return data


def _json(data: bytes, server: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ServerUnreachable(f"the server at {server} is not this service") from error


def _unreachable(server: str, error: Exception) -> ServerUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = f"its certificate is not trusted ({error.verify_message})"
    elif isinstance(error, TimeoutError):
        cause = f"no data for {SILENCE:g} s"
    else:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ServerUnreachable(f"no answer from {server}: {cause}. Is it running (datajobs serve)?")


class Refused(UsageError):
    """Problem that the service reports (RFC 9457). ``faults``: (pointer into the body, description)."""

    def __init__(self, detail: str, faults: Sequence[tuple[str, str]] = (), more: int = 0) -> None:
        self.faults = faults
        self.more = [f"and {more} more"] if more > 0 else []
        messages = [f"{pointer}: {fault}" for pointer, fault in faults]
        if not (messages and detail.startswith(messages[0])):  # else it repeats the first and counts them
            messages.insert(0, detail)
        super().__init__("; ".join([*messages, *self.more]))


class NotFound(Refused):
    """Refusal with the status 404."""


def _refusal(status: int, body: bytes, server: str) -> DataJobsError:
    kind = NotFound if status == 404 else Refused
    try:
        problem = json.loads(body)
        detail = str(problem.get("detail") or problem.get("title") or "")
        errors = problem.get("errors") or []
        faults = [(str(error["pointer"]), str(error["detail"])) for error in errors[:_SHOWN_PROBLEMS]]
        refused = kind(detail, faults, int(problem.get("errorCount") or len(errors)) - len(faults))
    except (ValueError, AttributeError, TypeError, KeyError):
        refused = kind(f"{server} answered {status}")
    if status in (401, 403):
        return UsageError(f"{refused} (a token comes from DATAJOBS_TOKEN or DATAJOBS_TOKEN_FILE)")
    if status in _BUSY or status >= 500:
        return ServerUnreachable(f"{server} cannot do that now: {refused}")
    return refused


def job_id_of(api: Api, text: str) -> str:
    """Return the full id of the job that ``text`` identifies: an id, its address, or the beginning of an id.

    Raises UsageError when ``text`` is not an id, or matches no job or several.
    """
    given = text.rstrip("/").rpartition("/")[2]
    with contextlib.suppress(ValueError):
        return str(UUID(given))
    if not _BEGINNING.fullmatch(given):
        raise UsageError(f"{text!r} is not a job id, nor the beginning of one (see: datajobs list)")
    from ran_datajobs.api import paths

    page = api.get(paths.JOBS, idPrefix=given, limit=_SHOWN_JOBS)
    found = [str(job["jobId"]) for job in page["items"]]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no data job has an id that begins with {given!r} (see: datajobs list)")
    others = " and others" if page["next"] else ""
    raise UsageError(f"several data jobs have ids that begin with {given!r}: {', '.join(found)}{others}")


def exit_status(job: Mapping[str, Any]) -> int:
    """0 for a finished job, else 1."""
    return 0 if read_status(job.get("status")) is Status.FINISHED else 1
