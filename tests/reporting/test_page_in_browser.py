"""The page as a real browser shows it, where there is one: what a parser of HTML cannot tell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.reporting.pages import render_page

from .report_examples import busy_run, letter, past_run
from .test_pages import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def shown(html: str, tmp_path: Path) -> tuple[str, str]:
    """The page's elements after its script has run, and what the browser complained of."""
    file = tmp_path / "page.html"
    file.write_text(html)
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_policy_lets_style_and_script_of_the_page_work_and_nothing_else(tmp_path: Path) -> None:
    """A digest that does not fit would leave a bare page; and a name that runs would change its title."""
    planted = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    name = planted + "".join(HOSTILE)
    report = busy_run(name=name).end("dead_letters", letters=[letter(name)])

    dom, complaints = shown(render_page(report, [past_run("dead_letters", 0), past_run("failed", 1)]), tmp_path)

    assert complaints == ""
    assert "<title>owned" not in dom
    # The script has run: it shows the filter.
    (form,) = re.findall(r"<form[^>]*>", dom)
    assert "hidden" not in form


def test_a_script_that_got_into_the_page_would_not_run(tmp_path: Path) -> None:
    """The second line of defence, should the first have a hole."""
    html = render_page(busy_run().end())
    holed = html.replace("</main>", "<script>document.title = 'owned'</script></main>")
    assert holed != html

    dom, complaints = shown(holed, tmp_path)

    assert "<title>owned" not in dom
    assert "Content Security Policy" in complaints
