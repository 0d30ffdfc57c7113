# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that speaks the seed dialect (ONAP CPS-NCMP data-job pages, "NCMP → DMI")."""

from __future__ import annotations

from ran_datajobs.plugins import wire
from ran_datajobs.plugins.answers import cancel_answer, create_answer, read_result, status_answer
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    JobAddress,
    ResultAnswer,
    StatusAnswer,
)


class SeedPlugin:
    """:class:`~ran_datajobs.plugins.port.DmiPlugin` over HTTP; ``url`` is the plugin's base address."""

    def __init__(self, url: str, http: PeerHttp) -> None:
        self._url = url.rstrip("/")
        self._http = http

    async def create(self, call: CreateCall) -> CreateAnswer:
        path = wire.path_of(wire.SEED_CREATE, {wire.DESTINATION: call.destination}, request_id=call.job_id)
        exchange = await self._http.exchange(
            "POST",
            self._url + path,
            body=wire.create_body(
                wire.Dialect.SEED,
                job_id=call.job_id,
                data_producer_id=call.data_producer_id,
                accept_type=call.accept_type,
                content_type=call.content_type,
                activation_mode=call.activation_mode,
                operations=call.operations,
            ),
            headers=wire.create_headers(wire.Dialect.SEED, call.sub_job_id),
        )
        return create_answer(wire.Dialect.SEED, exchange, call.operations)

    async def status(self, address: JobAddress) -> StatusAnswer:
        return status_answer(await self._http.exchange("GET", self._of(wire.SEED_STATUS, address)))

    async def result(self, address: JobAddress) -> ResultAnswer:
        url = self._of(wire.SEED_RESULT, address, {wire.DESTINATION: address.destination})
        exchange = await self._http.exchange(
            "GET", url, result=True, operations=address.operations, patience=address.patience
        )
        return await read_result(exchange, address.is_read)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return cancel_answer(await self._http.exchange("DELETE", self._of(wire.SEED_JOB, address)))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        path = wire.path_of(wire.SEED_WHOLE_JOB, request_id=job_id)
        return cancel_answer(await self._http.exchange("DELETE", self._url + path))

    def _of(self, template: str, address: JobAddress, query: dict[str, str] | None = None) -> str:
        return self._url + wire.path_of(
            template,
            {wire.DATA_PRODUCER_ID: address.data_producer_id, **(query or {})},
            request_id=address.job_id,
            data_producer_job_id=address.data_producer_job_id,
        )
