# SPDX-License-Identifier: Apache-2.0
"""The network on the page: the tree of managed objects, the search, the owner of an object and its jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from ran_datajobs.http.ports import free_port
from tests.browser.conftest import STARTS_WITHIN, Watched, watching
from tests.browser.running import Service, started
from tests.browser.scripted import UNDER_WAY
from tests.browser.test_page import labels, status, with_token
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.tiers import sampled

pytestmark = pytest.mark.browser

NO_OWNER = "status of 404"
"""Chromium writes it to the console when an object above all handles is chosen."""

REGION = "/SubNetwork=Europe/SubNetwork=Ireland"


def item(page: Page, rdn: str) -> Locator:
    """The line of the tree with this RDN."""
    return page.get_by_role("treeitem", name=re.compile(f"^{re.escape(rdn)}(,|$)"))


def line(page: Page, rdn: str) -> Locator:
    """What is clicked of it."""
    return item(page, rdn).locator("> .node")


def fact(page: Page, name: str) -> Locator:
    """A value in the panel of the owner."""
    return (
        page.locator(".owner .facts div")
        .filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
        .locator("dd")
    )


def handle_in_ireland(service: Service) -> dict[str, Any]:
    """The first handle of the region."""
    handle: dict[str, Any] = service.get(f"cmHandles?limit=1&alternateIdPrefix={quote(REGION)}")["items"][0]
    return handle


def rdns(handle: dict[str, Any]) -> list[str]:
    """The RDNs of a handle's alternate id."""
    return str(handle["alternateId"]).strip("/").split("/")


def allowed(watched: Watched, *texts: str) -> None:
    """Nothing but errors with one of these texts was shown in the console: the test has provoked them."""
    others = [error for error in watched.errors if not any(text in error for text in texts)]
    assert watched.errors and others == []
    watched.errors.clear()


def test_the_tree_opens_level_by_level(watched: Watched, running_service: Service) -> None:
    """Each level is asked for when it is opened, once. Every object shows how many handles are below it."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    expect(page.get_by_role("link", name="Network")).to_have_attribute("aria-current", "page")
    europe = item(page, "SubNetwork=Europe")
    expect(europe).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("treeitem")).to_have_count(1)
    expect(europe.locator(".figure")).to_have_text("200")
    for rdn in rdns(handle)[:-1]:
        line(page, rdn).click()
        expect(item(page, rdn)).to_have_attribute("aria-expanded", "true")
    line(page, rdns(handle)[-1]).click()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    line(page, "SubNetwork=Europe").locator(".rdn").click(position={"x": -14, "y": 8}, force=True)
    expect(item(page, "SubNetwork=Ireland")).to_be_hidden()
    line(page, "SubNetwork=Europe").locator(".rdn").click(position={"x": -14, "y": 8}, force=True)
    expect(item(page, rdns(handle)[-1])).to_be_visible()
    asked = [url for url in watched.requests if "/children" in url]
    assert len(asked) == len(set(asked)) == len(rdns(handle))
    allowed(watched, NO_OWNER)


def test_the_owner_has_all_that_is_registered(watched: Watched, running_service: Service) -> None:
    """Handle, producer, plugins, trust level, tag and public properties; also of an object below it."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto(f"#/network?fdn={quote(handle['alternateId'] + '/GNBDUFunction=1', '')}")
    expect(page.locator(".owner h2")).to_have_text("GNBDUFunction=1")
    for name, value in {
        "CM handle": handle["cmHandle"],
        "Data producer": handle["dataProducerId"],
        "Owned as part of": handle["alternateId"],
        "DMI plugin": handle["readPlugin"],
        "Trust level": handle["trustLevel"],
        "Module set tag": handle["moduleSetTag"],
        **handle["publicProperties"],
    }.items():
        expect(fact(page, name)).to_have_text(value)
    expect(item(page, rdns(handle)[-1])).to_have_attribute("aria-selected", "true")
    expect(page.locator(".owner")).to_contain_text("No open job touches what this handle owns.")
    expect(page.locator("main")).not_to_contain_text(re.compile("password", re.IGNORECASE))


def test_what_is_shown_is_in_the_address(watched: Watched, running_service: Service) -> None:
    """A reload shows the same opened objects and the same owner; back shows the one before."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    line(page, "SubNetwork=Europe").click()
    line(page, "SubNetwork=Ireland").click()
    line(page, rdns(handle)[2]).click()
    line(page, rdns(handle)[3]).click()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    page.reload()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    expect(item(page, rdns(handle)[3])).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.locator(".owner h2")).to_have_text(rdns(handle)[2])
    expect(item(page, rdns(handle)[2])).to_have_attribute("aria-selected", "true")
    allowed(watched, NO_OWNER)


def test_a_search_finds_handles(watched: Watched, running_service: Service) -> None:
    """While the reader types nothing is asked. A choice shows the owner, and the tree opens where it is."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    expect(item(page, "SubNetwork=Europe")).to_be_visible()
    box = page.get_by_role("searchbox", name="Search the network")
    box.press_sequentially(handle["cmHandle"], delay=20)
    found = page.get_by_role("list", name="CM handles found").get_by_role("link")
    expect(found).to_have_count(1)
    expect(page.get_by_role("tree")).to_be_hidden()
    expect(page.locator(".head [role=status]")).to_have_text(re.compile(r"^1\sCM handle$"))
    assert [url for url in watched.requests if "search=" in url][-1].endswith(
        f"search={handle['cmHandle']}&limit=50"
    )
    assert len([url for url in watched.requests if "search=" in url]) < len(handle["cmHandle"])
    found.click()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    expect(found).to_have_attribute("aria-current", "true")
    page.reload()
    expect(found).to_have_attribute("aria-current", "true")
    box.fill("")
    expect(item(page, rdns(handle)[-1])).to_have_attribute("aria-selected", "true")


@pytest.mark.nightly
def test_a_search_shows_more_and_asks_for_owners(watched: Watched, running_service: Service) -> None:
    """Fifty handles at a time. A text that can be an FDN leads to its owner, even if no handle has it."""
    page = watched.page
    page.goto("#/network?q=gnb-")
    links = page.get_by_role("list", name="CM handles found").get_by_role("link")
    expect(links).to_have_count(50)
    page.get_by_role("button", name="Show 50 more").click()
    expect(links).to_have_count(100)
    expect(links.nth(50)).to_be_focused()
    handle = handle_in_ireland(running_service)
    below = f"{handle['alternateId']}/GNBDUFunction=1/NRCellDU=1"
    page.get_by_role("searchbox").fill(below)
    expect(page.locator(".found")).to_contain_text("No CM handle has this text")
    page.get_by_role("link", name=f"Who owns {below}?").click()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])


def test_an_older_search_never_replaces_a_newer_one(watched: Watched) -> None:
    """The answer to an abandoned search is dropped, however late it comes."""
    page = watched.page
    page.goto("#/network?q=gnb-00001")
    links = page.get_by_role("list", name="CM handles found").get_by_role("link")
    expect(links).to_have_count(1)
    held: list[Any] = []
    page.route("**/cmHandles?search=gnb-*2*", lambda route: held.append(route))
    page.get_by_role("searchbox").fill("gnb-00002")
    expect(page.locator(".head [role=status]")).to_have_text("Searching …")
    page.get_by_role("searchbox").fill("gnb-00003")
    expect(links).to_contain_text(["gnb-00003"])
    for route in held:
        route.fulfill(json={"items": [], "next": None})
    expect(links).to_contain_text(["gnb-00003"])


def test_an_object_without_an_owner_says_why(watched: Watched, running_service: Service) -> None:
    """The service's words: the nearest handle, and how it differs."""
    page = watched.page
    fdn = f"{REGION}/MeContext=nowhere"
    refusal = page.request.get(f"ranoam/cm/v1/cmHandles/owner?fdn={quote(fdn)}").json()["detail"]
    page.goto(f"#/network?fdn={quote(fdn, '')}")
    expect(page.locator(".owner .notice")).to_have_text(refusal[0].upper() + refusal[1:])
    expect(page.locator(".owner h2")).to_have_text("MeContext=nowhere")
    expect(item(page, "SubNetwork=Ireland")).to_have_attribute("aria-expanded", "true")
    page.goto("#/network?fdn=nonsense")
    expect(page.locator(".owner .notice")).to_contain_text("must be an FDN")
    allowed(watched, NO_OWNER, "status of 400")


@pytest.mark.nightly
def test_open_jobs_are_links(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A job that runs at the owner's producer appears by itself, leads to its page, and goes at its end."""
    page = watched_guarded.page
    with_token(page, guarded_service)
    plugin[0].script("C", UNDER_WAY)
    page.goto("#/network?fdn=/SubNetwork=1/ManagedElement=C")
    expect(page.locator(".owner")).to_contain_text("No open job touches")
    job_id = guarded_service.submit(labels("C"))
    row = page.get_by_role("table", name="Open jobs").locator(f'tr[data-key="{job_id}"]')
    expect(row.locator(".status")).to_have_text(re.compile("running|not started"), timeout=20_000)
    row.get_by_role("link", name="labels").click()
    expect(page.locator("main p.id")).to_have_text(job_id)
    plugin[0].script("C", Script())
    expect(status(page)).to_have_text("finished", timeout=60_000)
    page.go_back()
    expect(page.locator(".owner")).to_contain_text("No open job touches", timeout=20_000)


@pytest.mark.nightly
def test_names_are_text(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A name that looks like markup, and one with a slash, are shown and found as they are."""
    odd = "/SubNetwork=<b>odd<&b>/ManagedElement=a%2Fb"
    page = watched_guarded.page
    with_token(page, guarded_service)
    guarded_service.register(plugin[1], {odd: "<i>p"}, prefix="odd")
    page.goto("#/network")
    line(page, "SubNetwork=<b>odd<&b>").click()
    line(page, "ManagedElement=a%2Fb").click()
    expect(fact(page, "Data producer")).to_have_text("<i>p")
    page.reload()
    expect(item(page, "ManagedElement=a%2Fb")).to_have_attribute("aria-selected", "true")
    allowed(watched_guarded, NO_OWNER)


def test_errors_are_shown_where_they_are_and_can_be_repeated(
    watched: Watched, running_service: Service
) -> None:
    """Of a level in the tree, of the search and of the owner; the rest of the view stays usable."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    expect(item(page, "SubNetwork=Europe")).to_be_visible()
    page.route("**/cmHandles**", lambda route: route.abort())
    page.route("**/cmHandles/**", lambda route: route.abort())
    line(page, "SubNetwork=Europe").click()
    again = page.get_by_role("treeitem", name=re.compile("try again$"))
    expect(again).to_be_visible()
    expect(page.locator(".owner [role=alert]")).to_contain_text("cannot be reached")
    expect(page.locator("#link-state")).to_have_text("no connection")
    page.get_by_role("searchbox").fill("gnb")
    expect(page.locator(".found [role=alert]")).to_contain_text("The search has failed")
    page.unroute("**/cmHandles**")
    page.unroute("**/cmHandles/**")
    page.locator(".found").get_by_role("button", name="Try again").click()
    expect(page.get_by_role("list", name="CM handles found").get_by_role("link")).to_have_count(50)
    page.get_by_role("searchbox").fill("")
    again.locator("> .node").click()
    expect(item(page, "SubNetwork=Ireland")).to_be_visible()
    expect(again).to_have_count(0)
    expect(page.locator("#link-state")).to_have_text("live")
    page.goto(f"#/network?fdn={quote(handle['alternateId'], '')}")
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    allowed(watched, "ERR_FAILED", NO_OWNER)


def test_an_empty_inventory_says_how_to_fill_it(watched: Watched) -> None:
    """With the command."""
    page = watched.page
    page.route("**/cmHandles/children**", lambda route: route.fulfill(json={"items": [], "next": None}))
    page.goto("#/network")
    expect(page.locator(".finder")).to_contain_text("No CM handle is registered.")
    expect(page.locator(".finder code")).to_have_text("datajobs inventory load FILE")


@pytest.mark.nightly
def test_long_levels_are_loaded_in_steps(watched: Watched) -> None:
    """A hundred objects at a time; the last line loads more, and the focus goes to the first new object. A
    reload shows a chosen object that is behind the first step."""
    page = watched.page
    total = 250

    def children(route: Any, request: Request) -> None:
        if "fdn=" in request.url:
            start = int((re.search(r"cursor=(\d+)", request.url) or [0, 0])[1])
            items = [
                {"fdn": f"/A=1/B={n}", "rdn": f"B={n}", "cmHandle": f"h{n}", "handles": 1}
                for n in range(start, min(start + 100, total))
            ]
            answer = {"items": items, "next": str(start + 100) if start + 100 < total else None}
        else:
            answer = {
                "items": [{"fdn": "/A=1", "rdn": "A=1", "cmHandle": None, "handles": total}],
                "next": None,
            }
        route.fulfill(json=answer)

    owner = {"alternateId": "/A=1/B=240", "cmHandle": "h240", "dataProducerId": "p", "readPlugin": "http://r"}
    job = {
        "jobId": "3f0c1a2b-0000-4000-8000-000000000000",
        "name": None,
        "type": "WRITE",
        "status": "RUNNING",
    }
    owner |= {"writePlugin": "http://w", "openJobs": [job], "openJobCount": 102}
    page.route("**/cmHandles/children**", children)
    page.route("**/cmHandles/owner**", lambda route: route.fulfill(json=owner))
    page.goto("#/network")
    line(page, "A=1").click()
    more = page.get_by_role("treeitem", name="Show more")
    below = page.get_by_role("group").get_by_role("treeitem")
    expect(below).to_have_count(101)
    more.locator("> .node").click()
    expect(item(page, "B=100")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(below).to_have_count(total)
    expect(more).to_have_count(0)
    page.goto("#/network?fdn=/A=1/B=240")
    page.reload()
    expect(below).to_have_count(102)
    expect(item(page, "B=240")).to_have_attribute("aria-selected", "true")
    expect(fact(page, "DMI plugin of reads")).to_have_text("http://r")
    expect(fact(page, "DMI plugin of writes")).to_have_text("http://w")
    jobs = page.get_by_role("table", name="Open jobs")
    expect(jobs.get_by_role("link", name="Data job 3f0c1a2b")).to_have_attribute(
        "href", f"#/jobs/{job['jobId']}"
    )
    expect(jobs.locator(".status")).to_have_text("running")
    expect(page.locator(".owner")).to_contain_text("and 101 more")


def test_the_tree_is_used_with_the_keyboard(watched: Watched, running_service: Service) -> None:
    """Arrows open, close and move, letters find, Enter chooses; the tree is one stop of the Tab key."""
    page = watched.page
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    expect(item(page, "SubNetwork=Europe")).to_be_visible()
    page.get_by_role("searchbox").focus()
    page.keyboard.press("Tab")
    expect(item(page, "SubNetwork=Europe")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(item(page, "SubNetwork=Ireland")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Home")
    expect(item(page, "SubNetwork=Europe")).to_be_focused()
    page.keyboard.type("ire")
    expect(item(page, "SubNetwork=Ireland")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(item(page, rdns(handle)[2])).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    expect(item(page, "SubNetwork=Ireland")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(item(page, "SubNetwork=Ireland")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(item(page, "SubNetwork=Ireland")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    expect(page.locator(".owner h2")).to_have_text("SubNetwork=Ireland")
    expect(page.locator('[role="tree"] [tabindex="0"]')).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.locator(".tree :focus")).to_have_count(0)
    allowed(watched, NO_OWNER)


@pytest.mark.parametrize("scheme", sampled(["light", "dark"], {"light"}))
def test_the_network_fits_a_narrow_screen(watched: Watched, running_service: Service, scheme: Any) -> None:
    """Tree and owner fit a phone's width, one below the other; a choice brings the owner into view."""
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    handle = handle_in_ireland(running_service)
    page.goto("#/network")
    for rdn in rdns(handle):
        line(page, rdn).click()
    expect(fact(page, "CM handle")).to_have_text(handle["cmHandle"])
    expect(page.locator(".owner h2")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Back to the tree").click()
    expect(page.get_by_role("tree")).to_be_in_viewport()
    allowed(watched, NO_OWNER)


@pytest.fixture(scope="module")
def large_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with 500,000 handles: 5 regions of 100,000 elements each."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data_dir: Path = tmp_path_factory.mktemp("large")
    with started(["serve", "--port", str(port), "--data-dir", str(data_dir)], url, STARTS_WITHIN):
        service = Service(url)
        for start in range(0, 500_000, 2_000):
            owners = {
                f"/SubNetwork=World/SubNetwork=R{n % 5}/ManagedElement={n:06}": f"ems-{n % 100}"
                for n in range(start, start + 2_000)
            }
            service.register("http://127.0.0.1:9", owners, prefix=f"h{start}")
        yield service


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_half_a_million_handles(browser: Browser, large_service: Service) -> None:
    """Levels open in steps, the counts are right, the search finds the last one, and the page stays small."""
    with watching(browser, large_service) as watched:
        page = watched.page
        page.set_default_timeout(30_000)
        page.goto("#/network")
        expect(line(page, "SubNetwork=World").locator(".figure")).to_have_text(
            re.compile(r"^500\s000$"), timeout=30_000
        )
        line(page, "SubNetwork=World").click()
        for region in range(5):
            figure = line(page, f"SubNetwork=R{region}").locator(".figure")
            expect(figure).to_have_text(re.compile(r"^100\s000$"), timeout=30_000)
        line(page, "SubNetwork=R3").click()
        expect(page.get_by_role("treeitem")).to_have_count(1 + 5 + 101, timeout=30_000)
        page.get_by_role("searchbox").fill("=499999")
        found = page.get_by_role("list", name="CM handles found").locator("[data-handle] a")
        expect(found).to_have_count(1, timeout=30_000)
        found.click()
        expect(fact(page, "Data producer")).to_have_text("ems-99")
        page.get_by_role("searchbox").fill("")
        expect(item(page, "ManagedElement=499999")).to_have_attribute("aria-selected", "true", timeout=30_000)
        assert page.evaluate("document.querySelectorAll('*').length") < 2_000
        allowed(watched, NO_OWNER)


def test_the_search_text_is_sent_as_it_is(watched: Watched) -> None:
    """Characters of an address in the text reach the service unchanged."""
    page = watched.page
    page.goto("#/network")
    expect(item(page, "SubNetwork=Europe")).to_be_visible()
    with page.expect_request(lambda request: "search=" in request.url) as sent:
        page.get_by_role("searchbox").fill("a&b=c#d%2F+é")
    assert sent.value.url.split("search=")[1].split("&")[0] == "a%26b%3Dc%23d%252F%2B%C3%A9"
    expect(page.locator(".found")).to_contain_text("No CM handle has this text")
    kept = page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('q')")
    assert kept == "a&b=c#d%2F+é"
