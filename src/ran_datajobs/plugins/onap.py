# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that speaks ONAP's DMI interface (``cmwriteJob``, ``cmreadJob``)."""

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


class OnapPlugin:
    """:class:`~ran_datajobs.plugins.port.DmiPlugin` over HTTP; ``url`` is the plugin's base address.

    Status, result and cancel of reads use the ``cmwriteJob`` paths too, as ONAP's do.
    """

    def __init__(self, url: str, http: PeerHttp) -> None:
        self._url = url.rstrip("/")
        self._http = http

    async def create(self, call: CreateCall) -> CreateAnswer:
        template = wire.ONAP_CREATE_READ if call.is_read else wire.ONAP_CREATE_WRITE
        exchange = await self._http.exchange(
            "POST",
            self._url + wire.path_of(template, {wire.DESTINATION: call.destination}),
            body=wire.create_body(
                wire.Dialect.ONAP,
                job_id=call.job_id,
                data_producer_id=call.data_producer_id,
                accept_type=call.accept_type,
                content_type=call.content_type,
                activation_mode=call.activation_mode,
                operations=call.operations,
            ),
            headers=wire.create_headers(wire.Dialect.ONAP, call.sub_job_id),
        )
        return create_answer(wire.Dialect.ONAP, exchange, call.operations)

    async def status(self, address: JobAddress) -> StatusAnswer:
        return status_answer(await self._http.exchange("GET", self._of(wire.ONAP_STATUS, address)))

    async def result(self, address: JobAddress) -> ResultAnswer:
        url = self._of(wire.ONAP_RESULT, address, {wire.DESTINATION: address.destination})
        exchange = await self._http.exchange(
            "GET", url, result=True, operations=address.operations, patience=address.patience
        )
        return await read_result(exchange, address.is_read)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return cancel_answer(await self._http.exchange("DELETE", self._of(wire.ONAP_JOB, address)))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        template = wire.ONAP_WHOLE_READ_JOB if is_read else wire.ONAP_WHOLE_WRITE_JOB
        path = wire.path_of(template, request_id=job_id)
        return cancel_answer(await self._http.exchange("DELETE", self._url + path))

    def _of(self, template: str, address: JobAddress, query: dict[str, str] | None = None) -> str:
        return self._url + wire.path_of(
            template,
            query,
            data_producer_id=address.data_producer_id,
            data_producer_job_id=address.data_producer_job_id,
        )
