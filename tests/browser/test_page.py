# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, over a real service. Every test also checks the assertions of
:func:`watched`."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched
from tests.browser.running import Service, example, example_path
from tests.browser.scripted import UNDER_WAY
from tests.kit.plugins.scripted import Script, ScriptedPlugin

pytestmark = pytest.mark.browser

SETTLES = 60_000
"""Timeout in milliseconds for a job of the demo, on a slow and shared machine."""

ENDED = re.compile(r"^(finished|partially failed|failed|cancelled)$")


def labels(*elements: str) -> dict[str, Any]:
    """A write of one label for each of these elements of the scripted plugin."""
    operations = [
        {
            "op": "replace",
            "path": f"/SubNetwork=1/ManagedElement={element}#/attributes/userLabel",
            "operationId": element,
            "value": "north",
        }
        for element in elements
    ]
    return {"name": "labels", "data": operations}


def with_token(page: Page, service: Service) -> None:
    """Store the token as if the reader had entered it in this tab."""
    page.add_init_script(f"sessionStorage.setItem('datajobs.token', {json.dumps(service.token)})")


def job_of_type(service: Service, kind: str) -> dict[str, Any]:
    """The oldest job of a type: the one that the demo itself submitted."""
    items: list[dict[str, Any]] = service.get(f"dataJob?type={kind}&limit=1000")["items"]
    return items[-1]


def open_job(page: Page, job_id: str) -> None:
    """Open a job by its address, as a link would."""
    page.goto(f"#/jobs/{job_id}")
    expect(page.locator("main p.id")).to_have_text(job_id)


def status(page: Page) -> Any:
    """The status mark of the job that is shown."""
    return page.locator(".state .status")


def plain(text: str) -> int:
    """A number as the page formats it."""
    return int(re.sub(r"\s", "", text))


def test_lists_the_jobs(watched: Watched, running_service: Service) -> None:
    """The list has every job of the service with its status in words, its name and its operations."""
    page = watched.page
    page.goto("")
    job = job_of_type(running_service, "WRITE")
    row = page.locator(f'tr[data-key="{job["jobId"]}"]')
    expect(row.get_by_role("link")).to_have_text(job["name"] or f"Data job {job['jobId'][:8]}")
    expect(row.locator(".status")).to_have_text("partially failed")
    assert plain(row.locator('td[data-label="Operations"]').inner_text()) == job["operations"]["total"]


def test_the_list_follows_the_jobs(watched: Watched, running_service: Service) -> None:
    """A job that another client submits appears in an open list, which shows its end."""
    page = watched.page
    page.goto("#/jobs")
    expect(page.get_by_role("table")).to_be_visible()
    row = page.locator(f'tr[data-key="{running_service.submit(example("read-cells"))}"]')
    expect(row.locator(".status")).to_have_text("finished", timeout=SETTLES)


def test_filters_the_list_by_type(watched: Watched, running_service: Service) -> None:
    """A filter is part of the address, and the list has only the matching jobs."""
    page = watched.page
    page.goto("#/jobs")
    page.get_by_label("Type").select_option("read")
    expect(page).to_have_url(re.compile(r"#/jobs\?type=READ$"))
    expect(page.locator(f'tr[data-key="{job_of_type(running_service, "WRITE")["jobId"]}"]')).to_have_count(0)
    expect(page.locator(f'tr[data-key="{job_of_type(running_service, "READ")["jobId"]}"]')).to_have_count(1)


def test_finished_is_spelt_for_people(watched: Watched, running_service: Service) -> None:
    """The API's FINSHED is shown as "finished"."""
    open_job(watched.page, job_of_type(running_service, "READ")["jobId"])
    expect(status(watched.page)).to_have_text("finished")
    expect(watched.page.locator("body")).not_to_contain_text("FINSHED")


def test_submits_after_a_dry_run(watched: Watched, running_service: Service) -> None:
    """Only a dry run enables the submit button, for exactly that text. Then the job runs to its end."""
    page = watched.page
    request = example("read-cells")
    page.goto("#/submit")
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_disabled()
    page.get_by_label("Request (JSON)").fill(json.dumps(request))
    expect(submit).to_be_disabled()

    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_role("heading", name="The plan")).to_be_visible()
    expect(submit).to_be_enabled()
    before = running_service.get("dataJob?limit=1")["items"][0]["jobId"]

    page.get_by_label("Destination").fill("elsewhere")
    expect(submit).to_be_disabled()
    page.get_by_label("Destination").fill("")
    page.get_by_role("button", name="Dry run").click()
    expect(submit).to_be_enabled()
    assert running_service.get("dataJob?limit=1")["items"][0]["jobId"] == before, "a dry run keeps nothing"

    submit.click()
    expect(page).to_have_url(re.compile(r"#/jobs/[0-9a-f-]{36}$"))
    expect(status(page)).to_have_text("finished", timeout=SETTLES)
    expect(page.get_by_role("progressbar", name="Progress of this job")).to_have_attribute(
        "aria-valuenow", "100"
    )
    assert page.url.rpartition("/")[2] == running_service.get("dataJob?limit=1")["items"][0]["jobId"]


def test_tells_what_was_ignored(watched: Watched, running_service: Service) -> None:
    """The plan and the job name unknown keys. A key is shown as text, whatever it contains."""
    page = watched.page
    request = labels("nowhere") | {"notBefore": "x", "<b>&": 1}
    request["data"] = [one | {"note": 1} for one in request["data"]]
    said = "#/notBefore, #/<b>&, note in 1\u00a0operation"
    page.goto("#/submit")
    page.get_by_label("Request (JSON)").fill(json.dumps(request))
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator(".plan .ignored")).to_contain_text(said)
    page.get_by_role("button", name=re.compile("^Submit")).click()
    expect(page.locator("main > div > .ignored")).to_contain_text(said)
    open_job(page, job_of_type(running_service, "WRITE")["jobId"])
    expect(page.locator(".ignored")).to_have_count(0)


def test_submits_a_file(watched: Watched, running_service: Service) -> None:
    """A file can be chosen instead of a text. The plan names operations without an owner, with the reason."""
    page = watched.page
    page.goto("#/submit")
    page.get_by_label("Choose a file").set_input_files(example_path("retune-pci"))
    page.get_by_role("button", name="Dry run").click()
    plan = page.get_by_role("region", name="The plan")
    expect(plan.get_by_role("table", name="Operations that would fail")).to_contain_text("UNMATCHED")
    (unmatched,) = (e for e in running_service.get("reasons")["items"] if e["reason"] == "UNMATCHED")
    expect(plan.get_by_role("listitem")).to_have_text(
        f"UNMATCHED: {unmatched['meaning']} {unmatched['advice']}"
    )
    page.get_by_role("button", name="Submit").click()
    expect(status(page)).to_have_text(ENDED, timeout=SETTLES)
    job = running_service.get(f"dataJob/{page.url.rpartition('/')[2]}")
    assert job["operations"]["total"] == len(example("retune-pci")["data"])


def test_shows_where_a_request_is_wrong(watched: Watched) -> None:
    """A refused dry run shows each error with its JSON pointer and the value. The submit button is
    disabled."""
    page = watched.page
    page.goto("#/submit")
    wrong = {"data": [{"op": "frobnicate", "path": "/SubNetwork=1", "operationId": "1"}]}
    page.get_by_label("Request (JSON)").fill(json.dumps(wrong))
    page.get_by_role("button", name="Dry run").click()
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("400")
    expect(problem.get_by_role("row").nth(1)).to_contain_text("#/data/0/op")
    expect(problem.get_by_role("row").nth(1)).to_contain_text('"frobnicate"')
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    assert [text for text in watched.errors if "400" not in text] == []
    watched.errors.clear()  # Chromium writes every refused request to the console


def test_groups_failures_by_reason(watched: Watched, running_service: Service) -> None:
    """Every reason is shown with the number of its operations, the most frequent one first, with the
    explanation of the service. The CSV has all operations."""
    page = watched.page
    job = job_of_type(running_service, "WRITE")
    failures = running_service.get(f"dataJob/{job['jobId']}/failures")["items"]
    wanted = Counter(failure["reason"] for failure in failures)
    explained = {each["reason"]: each for each in running_service.get("reasons")["items"]}
    assert len(wanted) > 5
    open_job(page, job["jobId"])
    groups = page.locator("article.group")
    expect(groups).to_have_count(len(wanted))
    shown = {
        group.locator("h3 code").inner_text(): plain(group.locator("h3 .count").inner_text())
        for group in groups.all()
    }
    assert shown == wanted
    assert list(shown.values()) == sorted(wanted.values(), reverse=True)
    for reason in wanted:
        group = page.locator(f'article.group[data-reason="{reason}"]')
        expect(group.locator("h3")).to_contain_text(explained[reason]["title"])
        expect(group.locator(".meaning")).to_have_text(explained[reason]["meaning"])
        expect(group.locator(".advice")).to_have_text(f"What to do: {explained[reason]['advice']}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    with download.value.path().open(newline="", encoding="utf-8") as rows:
        assert len(list(csv.DictReader(rows))) == len(failures)


def test_the_operations_of_a_reason_open_on_demand(watched: Watched, running_service: Service) -> None:
    """A closed group shows the states; an open one lists each operation with its detail."""
    page = watched.page
    job = job_of_type(running_service, "WRITE")
    failures = running_service.get(f"dataJob/{job['jobId']}/failures")["items"]
    others = [failure for failure in failures if failure["reason"] == "OTHER"]
    open_job(page, job["jobId"])
    group = page.locator('article.group[data-reason="OTHER"]')
    rows = group.get_by_role("table", name="Operations with OTHER").get_by_role("row")
    expect(rows).to_have_count(0)
    group.get_by_text(f"Operations: {len(others)} failed").click()
    expect(rows).to_have_count(1 + len(others))
    for row, failure in zip(rows.all()[1:], others, strict=True):
        expect(row).to_contain_text(failure["operationId"])
        expect(row).to_contain_text(failure["detail"])


@pytest.mark.nightly
def test_many_failures_are_shown_in_steps(watched: Watched, running_service: Service) -> None:
    """Of 3,000 operations with one reason ten are shown, more on each click, never more than 500."""
    page = watched.page
    operations = [
        {"op": "remove", "operationId": n, "path": f"/SubNetwork=Nowhere/ManagedElement={n}"}
        for n in range(3_000)
    ]
    open_job(page, running_service.submit({"name": "nowhere", "data": operations}))
    expect(status(page)).to_have_text("failed", timeout=SETTLES)
    group = page.locator('article.group[data-reason="UNMATCHED"]')
    expect(group.locator(".count")).to_have_text(re.compile(r"^3\s000$"))
    rows = group.locator("tbody tr")
    expect(rows).to_have_count(10)
    more = group.get_by_role("button", name=re.compile("^Show"))
    more.click()
    expect(rows).to_have_count(60)
    while more.is_visible():
        more.click()
    expect(rows).to_have_count(500)
    expect(group.locator(".more .hint")).to_have_text(
        re.compile(r"^500 of 3\s000 are shown; the CSV has them all\.$")
    )


def test_failures_are_counted_by_reason_and_state(watched: Watched) -> None:
    """Failures are counted by reason and state, however the stream is divided into chunks."""
    page = watched.page
    page.goto("")
    failures = [
        {"operationId": n, "reason": reason, "state": state}
        for n, (reason, state) in enumerate(
            [("DMI_UNREACHABLE", "FAILED")] * 3
            + [("DMI_UNREACHABLE", "UNKNOWN")]
            + [("CANCELLED", "NOT_STARTED")] * 2
        )
    ]
    counted = page.evaluate(
        """async (text) => {
            const { groupByReason } = await import("./failures.js");
            const bytes = new TextEncoder().encode(text);
            const pieces = new ReadableStream({
                start(stream) {
                    for (let at = 0; at < bytes.length; at += 7) stream.enqueue(bytes.slice(at, at + 7));
                    stream.close();
                },
            });
            const { groups, total, complete } = await groupByReason(pieces);
            const reported = [...groups].map(([reason, { count, states }]) => [reason, count, [...states]]);
            return { total, complete, groups: reported };
        }""",
        "".join(json.dumps(failure) + "\n" for failure in failures),
    )
    assert counted == {
        "total": 6,
        "complete": True,
        "groups": [
            ["DMI_UNREACHABLE", 4, [["FAILED", 3], ["UNKNOWN", 1]]],
            ["CANCELLED", 2, [["NOT_STARTED", 2]]],
        ],
    }


def test_failures_are_shown_when_their_explanation_cannot_be_had(
    watched: Watched, running_service: Service
) -> None:
    """Without the list of reasons, the groups have their reason, their count and their operations."""
    page = watched.page
    page.route("**/reasons", lambda route: route.abort())
    job = job_of_type(running_service, "WRITE")
    open_job(page, job["jobId"])
    group = page.locator('article.group[data-reason="UNMATCHED"]')
    expect(group.locator("h3")).to_have_text(f"{job['operations']['unmatched']}UNMATCHED")
    expect(group.locator(".advice")).to_have_count(0)
    assert [text for text in watched.errors if "ERR_FAILED" not in text] == []
    watched.errors.clear()  # the list that was aborted


def test_shows_the_sub_jobs(watched: Watched, running_service: Service) -> None:
    """The first sub-jobs are shown, with their data producers and final states."""
    page = watched.page
    job = job_of_type(running_service, "WRITE")
    first = running_service.get(f"dataJob/{job['jobId']}/subJobs?limit=1")["items"][0]
    open_job(page, job["jobId"])
    row = page.get_by_role("table", name="Sub-jobs").locator(f'tr[data-key="{first["subJobId"]}"]')
    expect(row).to_contain_text(first["dataProducerId"])
    assert plain(row.locator('td[data-label="Operations"]').inner_text()) == first["operations"]["total"]


def test_lists_the_result_objects(watched: Watched, running_service: Service) -> None:
    """Every object of the manifest is listed, and its link opens it."""
    page = watched.page
    job = job_of_type(running_service, "READ")
    objects = page.request.get(job["resultsuri"]).json()["objects"]
    open_job(page, job["jobId"])
    results = page.get_by_role("region", name="Results")
    expect(results.get_by_role("table", name="Result objects")).to_be_visible()
    more = results.get_by_role("button", name=re.compile("^Show"))
    while more.is_visible():
        more.click()
    links = results.get_by_role("table").get_by_role("link")
    expect(links).to_have_text([one["key"].partition("/")[2] for one in objects])
    answer = page.request.get(links.first.get_attribute("href") or "")
    assert answer.ok
    assert answer.json()["responses"]


def test_events_are_read_in_any_pieces(watched: Watched) -> None:
    """Wherever a stream of events is divided into chunks, the page reads the same events."""
    watched.page.goto("")
    stream = (
        "retry: 2000\n\n: still here\n\nid: 1\nevent: progress\ndata: {}\n\n"
        'id: 2\r\nevent: status\r\ndata: {"status":\r\ndata: "FINSHED"}\r\n\r\ndata: cut off'
    )
    read: list[list[dict[str, str]]] = watched.page.evaluate(
        """async (stream) => {
            const { eventParser } = await import("./events.js");
            return Array.from(stream, (_, cut) => {
                const feed = eventParser();
                return [stream.slice(0, cut), stream.slice(cut)].flatMap((piece) => [...feed(piece)]);
            });
        }""",
        stream,
    )
    assert len(read) == len(stream)
    for events in read:
        assert events == [
            {"type": "progress", "id": "1", "data": "{}"},
            {"type": "status", "id": "2", "data": '{"status":\n"FINSHED"}'},
        ]


@pytest.mark.nightly
def test_follows_a_job_without_its_events(watched: Watched, running_service: Service) -> None:
    """If the stream of events is unavailable, the page polls, and shows the same end."""
    page = watched.page
    page.route("**/events", lambda route: route.abort())
    open_job(page, running_service.submit(example("retune-pci")))
    expect(status(page)).to_have_text(ENDED, timeout=SETTLES)
    assert [text for text in watched.errors if "ERR_FAILED" not in text] == []
    watched.errors.clear()  # the streams that were aborted


def test_retries_what_did_not_succeed(watched: Watched, running_service: Service) -> None:
    """Retry opens the new job, which names the first one."""
    page = watched.page
    first = job_of_type(running_service, "WRITE")
    open_job(page, first["jobId"])
    page.get_by_role("button", name=re.compile("^Retry")).click()
    expect(page.get_by_role("link", name=first["jobId"][:8])).to_be_visible()
    expect(status(page)).to_have_text(ENDED, timeout=SETTLES)
    run_transaction = running_service.get(f"dataJob/{page.url.rpartition('/')[2]}")
    assert run_transaction["retryOf"] == first["jobId"]


def test_names_are_text(watched: Watched, running_service: Service) -> None:
    """Markup in the name of a job is shown as text, in the list, on the job and in the title."""
    page = watched.page
    name = "<img src=x onerror=\"document.title='owned'\">"
    job_id = running_service.submit(example("read-cells") | {"name": name})
    page.goto("#/jobs")
    expect(page.locator(f'tr[data-key="{job_id}"]').get_by_role("link")).to_have_text(name)
    open_job(page, job_id)
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(status(page)).to_have_text("finished", timeout=SETTLES)
    assert page.locator("main img").count() == 0
    assert page.title().startswith(name)


def test_progress_moves_by_itself(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A page without input follows the job: half of it done, its sub-jobs, and its end."""
    page = watched_guarded.page
    plugin[0].script("B", UNDER_WAY)
    with_token(page, guarded_service)
    open_job(page, guarded_service.submit(labels("A", "B")))
    bar = page.get_by_role("progressbar", name="Progress of this job")
    expect(bar).to_have_attribute("aria-valuenow", "50", timeout=SETTLES)
    expect(status(page)).to_have_text("running")
    sub_jobs = page.get_by_role("table", name="Sub-jobs").locator(".status")
    expect(sub_jobs).to_have_text(["finished", "running"])
    plugin[0].script("B", Script())
    expect(bar).to_have_attribute("aria-valuenow", "100", timeout=SETTLES)
    expect(status(page)).to_have_text("finished")
    expect(sub_jobs).to_have_text(["finished", "finished"])


def test_asks_for_a_token(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """After a 401 the page asks for a token until one is valid. It sends it with every call, including
    events."""
    page = watched_guarded.page
    plugin[0].script("C", UNDER_WAY)
    job_id = guarded_service.submit(labels("C"))
    page.goto("")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("asks for a token")
    page.get_by_label("Bearer token").fill("not-the-token")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("refused")
    page.get_by_label("Bearer token").fill(str(guarded_service.token))
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    with page.expect_request("**/events") as events:
        page.locator(f'tr[data-key="{job_id}"]').get_by_role("link").click()
    assert events.value.header_value("authorization") == f"Bearer {guarded_service.token}"
    expect(page.locator("#link-state")).to_have_text("live")
    assert page.evaluate("localStorage.length") == 0
    page.get_by_role("button", name="Forget token").click()
    expect(dialog).to_contain_text("asks for a token")
    assert page.evaluate("sessionStorage.length") == 0
    assert [text for text in watched_guarded.errors if "401" not in text] == []
    watched_guarded.errors.clear()  # Chromium writes every refused request to the console
    plugin[0].script("C", Script())


def test_cancels_after_a_question(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Cancel asks for confirmation. Then the job ends as cancelled, and can be retried."""
    page = watched_guarded.page
    plugin[0].script("D", UNDER_WAY)
    with_token(page, guarded_service)
    open_job(page, guarded_service.submit(labels("D")))
    expect(status(page)).to_have_text("running", timeout=SETTLES)
    cancel = page.get_by_role("button", name="Cancel …")
    cancel.click()
    page.get_by_role("button", name="Let it run").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(status(page)).to_have_text("running")
    cancel.click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(status(page)).to_have_text("cancelled", timeout=SETTLES)
    expect(cancel).to_be_hidden()
    expect(page.get_by_role("button", name=re.compile("^Retry"))).to_be_visible()


def test_unknown_job(watched: Watched) -> None:
    """The address of a job that does not exist says so."""
    watched.page.goto("#/jobs/00000000-0000-4000-8000-000000000000")
    expect(watched.page.get_by_role("alert")).to_contain_text("no such job")
    assert [text for text in watched.errors if "404" not in text] == []
    watched.errors.clear()  # Chromium writes every refused request to the console


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_narrow_screen(watched: Watched, running_service: Service, scheme: Any) -> None:
    """At 390 pixels no view needs horizontal scrolling, and every button can be reached."""
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    job_id = job_of_type(running_service, "WRITE")["jobId"]
    for address, landmark in (
        ("#/jobs", f'tr[data-key="{job_id}"]'),
        (f"#/jobs/{job_id}", "article.group .advice"),
        ("#/submit", "textarea"),
    ):
        page.goto(address)
        expect(page.locator(landmark).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 390), address


def test_works_with_the_keyboard(watched: Watched, running_service: Service) -> None:
    """The form is filled, tried and submitted without a mouse. The plan gets the focus once it is shown."""
    page = watched.page
    page.goto("#/submit")
    page.get_by_label("Request (JSON)").focus()
    page.keyboard.insert_text(json.dumps(example("read-cells")))
    page.get_by_role("button", name="Dry run").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The plan")).to_be_focused()
    page.get_by_role("button", name="Submit").focus()
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("finished", timeout=SETTLES)
    assert running_service.get("dataJob?limit=1")["items"][0]["type"] == "READ"
