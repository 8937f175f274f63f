"""Takes docs/console.png: the console over four sources, of which some need a person; needs Chromium.

`make picture-console`.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURE = Path(__file__).parent / "console.png"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
SIZE = (1100, 900)
SETTINGS = """\
name: {name}
source: {{type: filesystem, path: {name}}}
schedule: "{schedule}"
destination: {{type: agentcore, memory_id: {name}-a1B2c3D4e5, endpoint_url: local}}
"""
SCHEDULES = {"handbook": "*/30 * * * *", "wiki": "0 * * * *", "tickets": "*/5 * * * *", "faq": "0 3 * * *"}


def main() -> None:
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, schedule in SCHEDULES.items():
            (folder / f"{name}.yaml").write_text(SETTINGS.format(name=name, schedule=schedule))
            write(folder / name, rng, 60)
        (folder / "wiki" / "scanned.pdf").write_bytes(b"%PDF-1.7 and no more")
        for _ in range(12):
            for name in SCHEDULES:
                memsync(folder, "run", f"{name}.yaml")
                write(folder / name, rng, rng.randrange(1, 25))
        for file in sorted((folder / "tickets").iterdir())[:40]:
            file.unlink()
        memsync(folder, "run", "tickets.yaml")
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", "console", "."], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as console:
            assert console.stdout is not None
            (address,) = re.findall(r"http://\S+", console.stdout.readline())
            take(address)
            console.terminate()


def write(folder: Path, rng: random.Random, count: int) -> None:
    """Write documents, or other texts for some that there are."""
    folder.mkdir(exist_ok=True)
    for number in rng.sample(range(60), count):
        (folder / f"{number:02}.md").write_text(f"# Page {number}\n\n{rng.randrange(10**9)}\n")


def memsync(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], cwd=folder, capture_output=True, check=False)


def take(address: str) -> None:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        sys.exit("The picture needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    browser = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        browser.set_window_size(*SIZE)
        browser.get(address)
        WebDriverWait(browser, 60).until(lambda _: "faq" in browser.find_element(By.TAG_NAME, "main").text)
        browser.save_screenshot(str(PICTURE))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
