# SPDX-License-Identifier: Apache-2.0
"""A real service, a real browser, and a page that is watched: no request to another origin, no error in the
console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from ran_datajobs.http.ports import free_port
from tests.browser.running import Service, new_token, started
from tests.browser.scripted import scripted_plugin
from tests.kit import chromium
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.peers.program import not_installed

STARTS_WITHIN = 120.0


@dataclass
class Watched:
    """A page with its observed requests and errors. A test that provokes errors removes them from
    ``errors``."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def origins(self) -> set[str]:
        """Every origin that the page sent a request to."""
        parts = [urlsplit(url) for url in self.requests]
        return {f"{part.scheme}://{part.netloc}" for part in parts if part.scheme not in ("blob", "data")}


@pytest.fixture(scope="module")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``datajobs demo`` over its simulated network, after its own two jobs."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data_dir = tmp_path_factory.mktemp("demo")
    with started(["demo", "--port", str(port), "--data-dir", str(data_dir)], url, STARTS_WITHIN):
        service = Service(url)
        service.wait_for_jobs(2, STARTS_WITHIN)
        yield service


@pytest.fixture(scope="module")
def plugin() -> Iterator[tuple[ScriptedPlugin, str]]:
    """A scripted DMI plugin, and its address."""
    with scripted_plugin() as running:
        yield running


@pytest.fixture(scope="module")
def guarded_service(
    plugin: tuple[ScriptedPlugin, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that requires a token (:attr:`Service.token`), with the scripted plugin.

    The plugin's data producer ``A`` has ``SubNetwork=1/ManagedElement=A``, and so on to ``D``.
    """
    folder = tmp_path_factory.mktemp("guarded")
    tokens_file = folder / "tokens.json"
    token = new_token("planning-app", "admin", tokens_file)
    port = free_port()
    options = {"--port": port, "--data-dir": folder / "data", "--tokens-file": tokens_file}
    arguments = ["serve", *(str(part) for option in options.items() for part in option)]
    url = f"http://127.0.0.1:{port}"
    with started(arguments, url, STARTS_WITHIN):
        service = Service(url, token)
        service.register(plugin[1], {f"SubNetwork=1/ManagedElement={name}": name for name in "ABCD"})
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    path = chromium.program()
    if path is None:
        not_installed("Chromium")
    with chromium.chromium(path) as running:
        yield running


@pytest.fixture
def watched(browser: Browser, running_service: Service) -> Iterator[Watched]:
    """A page at 1280 × 800. At the end of the test it must have sent requests only to the service, and shown
    no error."""
    with watching(browser, running_service) as seen:
        yield seen


@pytest.fixture
def watched_guarded(browser: Browser, guarded_service: Service) -> Iterator[Watched]:
    """The same for the service that requires tokens."""
    with watching(browser, guarded_service) as seen:
        yield seen


@contextmanager
def watching(browser: Browser, service: Service) -> Iterator[Watched]:
    """A new page of ``service``, with its observed requests and errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=f"{service.url}/")
    try:
        seen = Watched(context.new_page())
        context.on("request", lambda request: seen.requests.append(request.url))
        context.on(
            "console", lambda message: seen.errors.append(message.text) if message.type == "error" else None
        )
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        yield seen
        assert seen.origins() == {service.url}
        assert seen.errors == []
    finally:
        context.close()
