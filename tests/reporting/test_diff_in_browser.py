"""The texts on the page of a run in a real browser: opened by mouse and keyboard, on a screen of any width."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipeline.reporting.pages import render_page
from tests.browser import open_browser

from .report_examples import ExampleRun, diff_of, shown
from .test_pages import HOSTILE


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser("the texts of a page") as browser:
        yield browser


def test_texts_are_opened_by_mouse_and_keyboard_and_do_no_harm(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """They are closed at first, whatever they hold stays text, and on a phone nothing runs out of the screen."""
    lines = [f"{sign}{name}" for name in HOSTILE for sign in " +-"]
    run = ExampleRun()
    run.diff = diff_of(shown("changed", "first.md", ["+" + "unbroken" * 60]), shown("changed", "second.md", lines))
    page = tmp_path / "page.html"
    page.write_text(render_page(run.end()))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.get(page.as_uri())
    title = browser.title

    first, second = browser.find_elements(By.CSS_SELECTOR, "details.diff")
    closed = [each.find_element(By.CLASS_NAME, "lines").is_displayed() for each in (first, second)]
    first.find_element(By.TAG_NAME, "summary").click()
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)

    assert closed == [False, False]
    assert "unbroken" in first.text
    assert "<script>alert(1)</script>" in second.text
    assert "\\u202egnp.exe" in second.text
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.title == title
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
