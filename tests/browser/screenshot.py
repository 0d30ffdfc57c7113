# SPDX-License-Identifier: Apache-2.0
"""Write a picture of the page: ``python -m tests.browser.screenshot URL [FILE]``.

URL is a running service that has a write job. FILE defaults to ``docs/images/page.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect

from tests.kit.chromium import chromium, program

DEFAULT: Final = Path(__file__).parents[2] / "docs" / "images" / "page.png"
MAX_BYTES: Final = 300_000


def picture(page: Page, url: str) -> bytes:
    """The oldest write job on the first page of the list, once its failures and sub-jobs are shown."""
    page.goto(f"{url.rstrip('/')}/#/jobs?type=WRITE")
    page.get_by_role("table").get_by_role("link").last.click()
    expect(page.locator(".state .status")).to_have_text("partially failed", timeout=60_000)
    expect(page.locator("article.group").first).to_be_visible()
    expect(page.get_by_role("table", name="Sub-jobs")).to_be_visible()
    page.mouse.move(0, 0)
    return page.screenshot(animations="disabled")


def main(arguments: list[str]) -> int:
    """Exit status 0 if the picture was written, 2 if not."""
    path = program()
    if not 1 <= len(arguments) <= 2 or path is None:
        print("usage: python -m tests.browser.screenshot URL [FILE]; Chromium is needed", file=sys.stderr)
        return 2
    target = Path(arguments[1]) if len(arguments) == 2 else DEFAULT
    with chromium(path) as browser:
        image = picture(browser.new_page(viewport={"width": 1280, "height": 900}), arguments[0])
    if len(image) > MAX_BYTES:
        print(f"the picture has {len(image)} bytes: more than {MAX_BYTES}", file=sys.stderr)
        return 2
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
