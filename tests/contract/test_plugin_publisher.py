# SPDX-License-Identifier: Apache-2.0
"""How the reference plugin calls the service: messages of reads, and status pushes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from ran_datajobs.dmi.publisher import ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import BusUnavailable, UsageError
from ran_datajobs.messaging.bus import Message
from ran_datajobs.model import Status
from ran_datajobs.plugins.client import HttpBounds, PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import PluginProfile
from tests.kit.plugin_parts import (
    DEADLINE,
    KeptMessages,
    WatchedElement,
    address_of,
    call_for,
    reads,
    served_plugin,
    until_terminal,
    writes,
)

MESSAGE = Message("job/sub", {"ce_id": "1", "content-type": "application/json"}, b'{"data":{"responses":[]}}')


class Service:
    """The two calls of the service that a plugin uses. Answers with ``statuses`` in order and repeats the
    last one."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = deque(statuses or (204,))
        self.got: list[tuple[str, str | None, object]] = []
        self.news = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        self.got.append((request.path, request.headers.get("Authorization"), body))
        if request.path.startswith("/ncmp/"):
            self.news.set()
        status = self.statuses.popleft() if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def test_messages_go_to_the_topic_as_the_contract_prints_them() -> None:
    """Headers, key and the JSON of the value, with the plugin's token."""
    service = Service()
    async with service.serving() as url, PeerHttp() as http:
        await ServiceLink(url + "/", http, token="secret-token").publish("ncmp-async-m2m", [MESSAGE, MESSAGE])
    message = {
        "headers": {"ce_id": "1", "content-type": "application/json"},
        "key": "job/sub",
        "value": {"data": {"responses": []}},
    }
    assert service.got == [
        (
            "/ranoam/cm/v1/topics/ncmp-async-m2m/messages",
            "Bearer secret-token",
            {"messages": [message, message]},
        )
    ]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_worth_a_repeat(status: int) -> None:
    """A service that is busy or unavailable raises BusUnavailable."""
    service = Service(status)
    async with service.serving() as url, PeerHttp() as http:
        with pytest.raises(BusUnavailable):
            await ServiceLink(url, http).publish("t", [MESSAGE])


async def test_a_create_without_listener_is_retryable(free_port: int) -> None:
    """A refused connection raises BusUnavailable."""
    async with PeerHttp(HttpBounds(connect=1.0)) as http:
        with pytest.raises(BusUnavailable):
            await ServiceLink(f"http://127.0.0.1:{free_port}", http).publish("t", [MESSAGE])


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413])
async def test_a_refusal_is_for_people_and_never_names_the_token(status: int) -> None:
    """A wrong address or token raises UsageError, since a retry does not help."""
    service = Service(status)
    async with service.serving() as url, PeerHttp() as http:
        with pytest.raises(UsageError) as refused:
            await ServiceLink(url, http, token="secret-token").publish("t", [MESSAGE])
    assert "secret-token" not in str(refused.value)


async def test_the_news_of_an_end_reaches_the_service_once(tmp_path: Path) -> None:
    """When a job ends, the plugin pushes the status of its sub-job; the push is optional."""
    service, element = Service(500), WatchedElement()
    async with service.serving() as api_root, PeerHttp() as http:
        link = ServiceLink(api_root, http)
        settings = PluginSettings(tmp_path / "dmi")
        async with served_plugin(settings, lambda _: element, news=link) as url:
            plugin = plugins_over(http)(PluginProfile(1, url))
            call = call_for("seed", writes(1))
            address = address_of(call, await plugin.create(call))
            assert (await until_terminal(plugin, address))[-1] is Status.FINISHED
            await asyncio.wait_for(service.news.wait(), DEADLINE)
    assert service.got == [
        (
            f"/ncmp/v1/subJobs/{call.sub_job_id}/status",
            None,
            {"dataProducerJobId": address.data_producer_job_id, "status": "FINSHED"},
        )
    ]


async def test_a_read_with_untaken_messages_has_failed(tmp_path: Path) -> None:
    """A permanent refusal ends the read as FAILED at once. A bus that is unavailable for too long does so,
    too."""
    element = WatchedElement()
    service = Service(403)
    async with service.serving() as api_root, PeerHttp() as http:
        unavailable = KeptMessages(failures=1_000_000)
        for publisher in (ServiceLink(api_root, http), unavailable):
            settings = PluginSettings(tmp_path / type(publisher).__name__, publish_give_up=0.0)
            async with served_plugin(settings, lambda _: element, publisher) as url:  # type: ignore[arg-type]
                plugin = plugins_over(http)(PluginProfile(1, url))
                call = call_for("seed", reads("Small"))
                address = address_of(call, await plugin.create(call))
                assert (await until_terminal(plugin, address))[-1] is Status.FAILED
