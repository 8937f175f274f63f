"""The page of `memsync console` in a real browser: by mouse, by keyboard, and with names that are out to harm."""

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import open_browser

from .conftest import Folder, Memory, Memsync

WAIT_S = 60
HOSTILE = "<img src=x onerror=document.title='hurt'> \u202egpj.md"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser("the console's page") as browser:
        yield browser


class Page:
    """What a person sees and does."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.home = address.split("#", maxsplit=1)[0]
        browser.get(address)
        self.wait_for("Sources")

    @property
    def text(self) -> str:
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def go(self, place: str) -> None:
        self.browser.get(f"{self.home}#/{place}")

    def wait_for(self, *words: str) -> None:
        self.until(lambda: all(word in self.text for word in words))

    def until(self, is_so: Callable[[], object]) -> None:
        WebDriverWait(self.browser, WAIT_S, ignored_exceptions=[Exception]).until(lambda _: is_so())

    def button(self, words: str) -> WebElement:
        (found, *_) = [
            button for button in self.browser.find_elements(By.TAG_NAME, "button") if button.text.startswith(words)
        ]
        return found

    def press(self, words: str) -> None:
        """Click a button, once it can be; it may be made anew at this moment."""

        def click() -> bool:
            button = self.button(words)
            if not button.is_enabled():
                return False
            button.click()
            return True

        self.until(click)

    def type(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def tab_to(self, words: str) -> None:
        """Press Tab until what has the focus says these words."""
        for _ in range(60):
            self.type(Keys.TAB)
            if self.browser.switch_to.active_element.text.startswith(words):
                return
        raise AssertionError(f"the focus never came to {words!r}")


@pytest.fixture
def page(folder: Folder, memory: Memory, memsync: Memsync, browser: webdriver.Chrome) -> Iterator[Page]:
    folder.configure(memory.url)
    folder.write_documents(3)
    running = memsync.start("console", "docs.yaml")
    page = Page(browser, running.read_line().split()[-1])
    yield page
    entries: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    addresses = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    browser.get("about:blank")
    running.stop_by(signal.SIGTERM)
    assert [entry for entry in entries if "the server responded with a status of 4" not in entry["message"]] == []
    assert [address for address in addresses if not address.startswith((page.home, "data:"))] == []


def test_a_sync_is_started_watched_and_looked_at_in_its_report(page: Page, memory: Memory) -> None:
    assert "never ran" in page.text
    page.press("Run")
    page.wait_for("in sync", "3 documents", "nothing to do")

    page.go("source/docs/runs")
    page.wait_for("Report")
    (console,) = page.browser.window_handles
    page.press("Report")
    page.until(lambda: len(page.browser.window_handles) == 2)
    page.browser.switch_to.window(next(each for each in page.browser.window_handles if each != console))
    page.until(lambda: "In sync" in page.text)
    page.browser.find_element(By.ID, "words").send_keys("002")
    page.wait_for("1 of 3 shown")
    assert page.browser.execute_script("return self.origin") == "null"  # out of reach of the console
    assert page.browser.execute_script("return self.opener") is None
    page.browser.close()
    page.browser.switch_to.window(console)

    assert len(memory.records()) == 3
    page.go("source/docs")
    page.wait_for("memsync run", "ended with 0", "In sync.")


def test_it_is_used_by_keyboard_alone(page: Page, memory: Memory) -> None:
    """And the focus stays where it is, though the page is made anew every other second."""
    page.type(Keys.TAB)
    page.tab_to("Run")
    page.type(Keys.ENTER)
    page.wait_for("in sync", "last run")
    page.browser.switch_to.active_element.send_keys("/")
    page.type("all of 002.md", Keys.ENTER)
    page.wait_for("002.md", "score")
    page.tab_to("docs")
    page.type(Keys.ENTER)
    page.wait_for("Now", "Runs", "Dead letters")
    page.tab_to("Runs")
    page.type(Keys.ENTER)
    page.wait_for("Began", "run")

    assert len(memory.records()) == 3


def test_the_link_to_the_content_leads_there_and_nowhere_else(page: Page) -> None:
    """Who uses the keyboard would be sent to another view, and after loading the page again would be locked out."""
    page.go("source/docs/runs")
    page.wait_for("It has never run.")
    page.browser.execute_script("document.querySelector('.skip').focus()")
    page.type(Keys.ENTER)

    page.until(lambda: page.browser.switch_to.active_element.get_attribute("id") == "main")
    assert page.browser.current_url.endswith("#/source/docs/runs")

    for place in ("#main", "#/search/100%"):  # as an older page may have left it, or somebody typed it
        page.browser.get(page.home + place)
        page.browser.refresh()
        page.until(lambda: "Sources" in page.text or "100%" in page.text)
        assert "holds the token" not in page.text


def test_dead_letters_are_found_opened_replayed_and_dropped(page: Page, folder: Folder, memory: Memory) -> None:
    memory.play(reject_text="poison")
    for name in ("bad.md", "worse.md"):
        folder.write(name, f"# {name}\n\nHere is poison.\n")
    page.press("Run")
    page.wait_for("dead letters", "2 dead letters")
    page.go("source/docs/letters")
    page.wait_for("bad.md", "worse.md", "400")

    page.browser.find_element(By.ID, "words").send_keys("worse")
    page.until(lambda: "bad.md" not in page.text)
    page.press("worse.md")
    page.wait_for("Here is poison.")
    page.browser.find_element(By.ID, "all").click()
    page.press("Drop 1")
    page.wait_for("given up for good")
    page.browser.find_element(By.CSS_SELECTOR, "#ask button[value=no]").click()
    assert "worse.md" in page.text
    page.press("Drop 1")
    page.wait_for("given up for good")
    page.browser.find_element(By.ID, "ask-yes").click()
    page.wait_for("Dead letters (1)")

    memory.play()
    page.until(lambda: page.button("Replay all").is_enabled())
    page.browser.find_element(By.ID, "words").send_keys(Keys.BACKSPACE * 5)
    page.press("Replay all")
    page.wait_for("No dead letters")
    assert "bad.md" in memory.documents()
    assert "worse.md" not in memory.documents()


def test_names_that_are_out_to_harm_are_text(page: Page, folder: Folder, memory: Memory) -> None:
    """Whoever can name a file must not get the token, and with it the memory."""
    memory.play(reject_text="poison")
    folder.write(HOSTILE, "# <script>document.title='hurt'</script>\n\nHere is poison.\n")
    page.press("Run")
    page.wait_for("1 dead letter")
    page.go("source/docs/letters")
    page.wait_for("<img src=x", "\\u202e")
    page.press("<img src=x")
    page.wait_for("poison")

    assert page.browser.find_elements(By.CSS_SELECTOR, "main img, main b b, main script") == []
    assert "hurt" not in page.browser.title
    assert "\u202e" not in page.text


def test_a_search_says_which_memory_was_not_asked(page: Page, memory: Memory) -> None:
    """Nothing found in one of them would look like nothing being there."""
    page.press("Run")
    page.wait_for("in sync")
    memory.play(script=("RetrieveMemoryRecords:access_denied",))
    page.go("search")
    page.wait_for("Type what an agent would ask.")
    page.type("/")
    page.type("all of 002.md", Keys.ENTER)

    page.wait_for("docs was not searched")
    assert "finds nothing" not in page.text


def test_a_sync_of_another_process_is_watched_live(page: Page, memory: Memory, memsync: Memsync) -> None:
    memory.play(latency_s=30)
    run = memsync.start("run", "docs.yaml")
    run.wait_for_log("scan_finished")

    page.wait_for("running", "documents seen")
    assert not page.button("Run").is_enabled()
    run.stop_by(signal.SIGINT)
    page.wait_for("interrupted")


def test_without_the_token_it_says_how_to_come_in(page: Page) -> None:
    """Somebody has typed the address without it, or kept a tab for days."""
    page.browser.execute_script("sessionStorage.clear()")
    page.browser.get(f"{page.home}?#/")
    page.wait_for("memsync console")

    assert "docs" not in re.sub("memsync console", "", page.text)
