# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin over HTTP in either dialect: seed (ONAP CPS-NCMP data-job pages, "NCMP → DMI") or ONAP's DMI
interface (``cmwriteJob``, ``cmreadJob``).

A create is sent once more where the answer proves that nothing was executed: after a 404 or a 405, which a
plugin gives that does not have the call, in the other dialect, if the plugin's is ``auto``; after a 415 with
the other media type. The media type that was taken is kept in memory: after a restart it costs one more call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from ran_datajobs.plugins import wire
from ran_datajobs.plugins.answers import cancel_answer, create_answer, read_result, status_answer
from ran_datajobs.plugins.client import Answered, Exchange, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.port import (
    AUTO,
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    JobAddress,
    Lost,
    OutcomeUnknown,
    PluginProfile,
    Refused,
    ResultAnswer,
    Retryable,
    StatusAnswer,
)

Answer = TypeVar("Answer")

PluginOf = Callable[[PluginProfile], DmiPlugin]
"""Returns the client of a plugin; dispatch takes one of these, so that tests can pass their own."""


_CREATE: Final = {
    wire.Dialect.SEED: (wire.SEED_CREATE, wire.SEED_CREATE),
    wire.Dialect.ONAP: (wire.ONAP_CREATE_WRITE, wire.ONAP_CREATE_READ),
}
_WHOLE_JOB: Final = {
    wire.Dialect.SEED: (wire.SEED_WHOLE_JOB, wire.SEED_WHOLE_JOB),
    wire.Dialect.ONAP: (wire.ONAP_WHOLE_WRITE_JOB, wire.ONAP_WHOLE_READ_JOB),
}
"""Paths of writes and of reads, by dialect."""

# Status, result and cancel of reads use the ``cmwriteJob`` paths too, as ONAP's do.
_JOB: Final = {wire.Dialect.SEED: wire.SEED_JOB, wire.Dialect.ONAP: wire.ONAP_JOB}
_STATUS: Final = {wire.Dialect.SEED: wire.SEED_STATUS, wire.Dialect.ONAP: wire.ONAP_STATUS}
_RESULT: Final = {wire.Dialect.SEED: wire.SEED_RESULT, wire.Dialect.ONAP: wire.ONAP_RESULT}


_ABSENT: Final = frozenset({404, 405})
"""Status codes of a plugin that does not have a call; nothing was executed."""

_UNSUPPORTED_MEDIA_TYPE: Final = 415
_FORBIDDEN: Final = frozenset({401, 403})

_OTHER_DIALECT: Final = {
    wire.Dialect.SEED: wire.Dialect.ONAP,
    wire.Dialect.ONAP: wire.Dialect.SEED,
}
_OTHER_TYPE: Final = {wire.JSON: wire.JSON_PATCH_3GPP, wire.JSON_PATCH_3GPP: wire.JSON}

_CONVERT_AT_ONCE: Final = 64 * 1024
"""Maximum size in bytes of operations that are converted on the event loop."""

_NOT_AGAIN: Final = Retryable("not sent in another form: its worker may no longer send it", answered=True)


class HttpPlugin:
    """:class:`~ran_datajobs.plugins.port.DmiPlugin` over HTTP.

    ``media_types``: the media type of creates that a plugin took, by its address and the dialect; shared by
    all clients of a process.
    """

    def __init__(
        self,
        profile: PluginProfile,
        http: PeerHttp,
        credentials: Credentials,
        media_types: MutableMapping[tuple[str, str], str],
    ) -> None:
        self._url = profile.url.rstrip("/")
        self._dialect = wire.Dialect(profile.spoken_dialect)
        self._auto = profile.dialect == AUTO
        self._http = http
        self._credentials = credentials
        self._media_types = media_types

    async def create(self, call: CreateCall) -> CreateAnswer:
        answer, absent = await self._create(self._dialect, call)
        if not absent or not self._auto:
            return answer
        if not call.may_be_sent():
            return _NOT_AGAIN
        other, absent = await self._create(_OTHER_DIALECT[self._dialect], call)
        if absent and isinstance(answer, Refused) and isinstance(other, Refused):
            causes = {self._dialect: answer.cause, _OTHER_DIALECT[self._dialect]: other.cause}
            words = (f"{cause} in the dialect {dialect}" for dialect, cause in causes.items())
            return Refused(f"it has no create that it accepts: {', '.join(words)}")
        return other

    async def _create(self, dialect: wire.Dialect, call: CreateCall) -> tuple[CreateAnswer, bool]:
        """The answer to a create in one dialect, and whether the plugin does not have this call."""
        operations = call.operations
        if call.dialect not in ("", dialect):
            operations = await _converted(operations, dialect)
            if not call.may_be_sent():
                return _NOT_AGAIN, False
        path = wire.path_of(
            _CREATE[dialect][call.is_read],
            {wire.DESTINATION: call.destination},
            request_id=call.job_id,
        )
        body = wire.create_body(dialect, replace(call, operations=operations))
        kept = self._media_types.get((self._url, dialect), wire.CREATE_CONTENT_TYPE[dialect])
        exchange = await self._post(path, body, wire.create_headers(call.sub_job_id, kept))
        if _status(exchange) == _UNSUPPORTED_MEDIA_TYPE:
            if not call.may_be_sent():
                return _NOT_AGAIN, False
            other = _OTHER_TYPE[kept]
            exchange = await self._post(path, body, wire.create_headers(call.sub_job_id, other))
            if isinstance(exchange, Answered) and exchange.status != _UNSUPPORTED_MEDIA_TYPE:
                self._media_types[self._url, dialect] = other
        authorization = self._credentials.of(self._url)
        secrets = () if authorization is None else authorization.secrets
        answer = self._explained(create_answer(dialect, exchange, operations, secrets), exchange)
        if isinstance(answer, Created):
            answer = replace(answer, dialect=dialect)
        return answer, _status(exchange) in _ABSENT

    async def status(self, address: JobAddress) -> StatusAnswer:
        exchange = await self._call("GET", self._of(_STATUS, address))
        return self._explained(status_answer(exchange), exchange)

    async def result(self, address: JobAddress) -> ResultAnswer:
        url = self._of(_RESULT, address, {wire.DESTINATION: address.destination})
        exchange = await self._call(
            "GET",
            url,
            result=True,
            operations=address.operations,
            images=address.before_images,
            patience=address.patience,
        )
        return self._explained(await read_result(exchange, address.is_read), exchange)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        exchange = await self._call("DELETE", self._of(_JOB, address))
        return self._explained(cancel_answer(exchange), exchange)

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        path = wire.path_of(_WHOLE_JOB[self._dialect][is_read], request_id=job_id)
        exchange = await self._call("DELETE", self._url + path)
        return self._explained(cancel_answer(exchange), exchange)

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> Exchange:
        return await self._call("POST", self._url + path, headers, body=body)

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, **how: Any
    ) -> Exchange:
        """One exchange, with the credentials that are for this plugin."""
        sent = {**(headers or {}), **self._credentials.headers(self._url)}
        return await self._http.exchange(method, url, headers=sent or None, **how)

    def _explained(self, answer: Answer, exchange: Exchange) -> Answer:
        """``answer`` with what to do about a plugin that wants other credentials."""
        if _status(exchange) in _FORBIDDEN and isinstance(
            answer, Refused | Retryable | Lost | OutcomeUnknown
        ):
            cause = f"{answer.cause}: {self._credentials.advice(self._url)}"
            return replace(answer, cause=cause)
        return answer

    def _of(
        self,
        templates: Mapping[wire.Dialect, str],
        address: JobAddress,
        query: dict[str, str] | None = None,
    ) -> str:
        """The address of a call about one sub-job; the seed dialect names its data producer in the query."""
        seed = self._dialect is wire.Dialect.SEED
        named = {wire.DATA_PRODUCER_ID: address.data_producer_id} if seed else {}
        return self._url + wire.path_of(
            templates[self._dialect],
            named | (query or {}),
            request_id=address.job_id,
            data_producer_id=address.data_producer_id,
            data_producer_job_id=address.data_producer_job_id,
        )


def _status(exchange: Exchange) -> int | None:
    return exchange.status if isinstance(exchange, Answered) else None


async def _converted(operations: bytes, dialect: wire.Dialect) -> bytes:
    """Encoded operations in another dialect; many of them are converted on a thread, to keep the event loop
    responsive."""
    if len(operations) > _CONVERT_AT_ONCE:
        return await asyncio.to_thread(wire.converted, operations, dialect)
    return wire.converted(operations, dialect)


def plugins_over(http: PeerHttp, credentials: Credentials | None = None) -> PluginOf:
    """Clients of all DMI plugins over one shared HTTP client; cheap, nothing is opened."""
    media_types: dict[tuple[str, str], str] = {}
    known = credentials or Credentials(None)
    return lambda profile: HttpPlugin(profile, http, known, media_types)
