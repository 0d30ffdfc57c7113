# SPDX-License-Identifier: Apache-2.0
"""What a job waits for, as the page shows it and updates it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.running import Service
from tests.browser.scripted import UNDER_WAY
from tests.browser.test_page import SETTLES, labels, open_job, status, with_token
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step

pytestmark = pytest.mark.browser


@pytest.mark.nightly
def test_a_job_that_waits_says_for_what(
    watched_guarded: Watched, guarded_service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Its page, its sub-job and the list show what it waits for. When the wait ends they stop showing it,
    without a reload of the page."""
    page = watched_guarded.page
    plugin[0].script("A", UNDER_WAY)
    plugin[0].script("B", Script(create=(Step.BUSY,)))
    with_token(page, guarded_service)
    first = guarded_service.submit(labels("A"))
    open_job(page, first)
    expect(status(page)).to_have_text("running", timeout=SETTLES)
    expect(page.locator("p.waiting")).to_be_hidden()
    unavailable = guarded_service.submit(labels("B"))
    second = guarded_service.submit(labels("A"))
    open_job(page, second)
    waiting = page.locator("p.waiting")
    expect(waiting).to_contain_text("Waits for a slot at the data producer: ", timeout=SETTLES)
    expect(waiting).to_contain_text(f"at present sub-job {plugin_sub_job(guarded_service, first)}")
    sub_jobs = page.get_by_role("table", name="Sub-jobs")
    expect(sub_jobs).to_contain_text("waits for a slot at the data producer", timeout=SETTLES)
    page.goto("#/jobs")
    marks = page.locator(f'tr[data-key="{second}"] .waits')
    expect(marks).to_have_text("waits for a slot at the data producer")
    expect(page.locator(f'tr[data-key="{unavailable}"] .waits')).to_have_text(
        "waits for the DMI plugin", timeout=SETTLES
    )
    expect(page.locator(f'tr[data-key="{first}"] .waits')).to_have_count(0)
    open_job(page, unavailable)
    expect(waiting).to_contain_text("; times out at ", timeout=SETTLES)
    plugin[0].script("B", Script())
    expect(status(page)).to_have_text("finished", timeout=SETTLES)
    expect(waiting).to_be_hidden()
    plugin[0].script("A", Script())
    open_job(page, second)
    expect(status(page)).to_have_text("finished", timeout=SETTLES)
    expect(waiting).to_be_hidden()


def plugin_sub_job(service: Service, job_id: str) -> str:
    """The id of the only sub-job of a job."""
    (only,) = service.get(f"dataJob/{job_id}/subJobs")["items"]
    return str(only["subJobId"])
