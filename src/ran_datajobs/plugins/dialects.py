# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin over HTTP in either dialect: seed (ONAP CPS-NCMP data-job pages, "NCMP → DMI") or ONAP's DMI
interface (``cmwriteJob``, ``cmreadJob``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ran_datajobs.plugins import wire
from ran_datajobs.plugins.answers import cancel_answer, create_answer, read_result, status_answer
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    DmiPlugin,
    JobAddress,
    PluginProfile,
    ResultAnswer,
    StatusAnswer,
)

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


class HttpPlugin:
    """:class:`~ran_datajobs.plugins.port.DmiPlugin` over HTTP; ``url`` is the plugin's base address."""

    def __init__(self, url: str, dialect: wire.Dialect, http: PeerHttp) -> None:
        self._url = url.rstrip("/")
        self._dialect = dialect
        self._http = http

    async def create(self, call: CreateCall) -> CreateAnswer:
        path = wire.path_of(
            _CREATE[self._dialect][call.is_read],
            {wire.DESTINATION: call.destination},
            request_id=call.job_id,
        )
        exchange = await self._http.exchange(
            "POST",
            self._url + path,
            body=wire.create_body(self._dialect, call),
            headers=wire.create_headers(self._dialect, call.sub_job_id),
        )
        return create_answer(self._dialect, exchange, call.operations)

    async def status(self, address: JobAddress) -> StatusAnswer:
        return status_answer(await self._http.exchange("GET", self._of(_STATUS, address)))

    async def result(self, address: JobAddress) -> ResultAnswer:
        url = self._of(_RESULT, address, {wire.DESTINATION: address.destination})
        exchange = await self._http.exchange(
            "GET", url, result=True, operations=address.operations, patience=address.patience
        )
        return await read_result(exchange, address.is_read)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return cancel_answer(await self._http.exchange("DELETE", self._of(_JOB, address)))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        path = wire.path_of(_WHOLE_JOB[self._dialect][is_read], request_id=job_id)
        return cancel_answer(await self._http.exchange("DELETE", self._url + path))

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


def plugins_over(http: PeerHttp) -> PluginOf:
    """Clients of all DMI plugins over one shared HTTP client; cheap, nothing is opened."""
    return lambda profile: HttpPlugin(profile.url, wire.Dialect(profile.spoken_dialect), http)
