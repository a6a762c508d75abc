"""Debian's headless Chromium over the W3C WebDriver protocol: a phone's screen, touch, slow processor."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PHONE = {
    "deviceMetrics": {"width": 360, "height": 780, "pixelRatio": 2.0, "touch": True, "mobile": True},
    "userAgent": "Mozilla/5.0 (Linux; Android 16; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Mobile Safari/537.36",
}
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run")


class Browser:
    """One browser with a profile of its own: one phone."""

    def __init__(self, driver: str, *arguments: str) -> None:
        self._driver = driver
        options = {
            "binary": shutil.which("chromium"),
            "args": [*ARGUMENTS, *arguments],
            "mobileEmulation": PHONE,
        }
        asked = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "acceptInsecureCerts": True,
            "timeouts": {"script": 120_000},
        }
        self._session = ""
        self._session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": asked}})["sessionId"]

    def _call(self, method: str, path: str, content: object = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._driver + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=150) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"][:2000]) from None

    def _post(self, path: str, content: object) -> Any:
        return self._call("POST", f"/session/{self._session}{path}", content)

    def open(self, url: str) -> None:
        """Open an address in this tab."""
        self._post("/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page; what it returns, a promise's value included."""
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **values: object) -> Any:
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": command, "params": values})

    def text(self, element: str) -> str:
        """The text of the element with an id."""
        return str(self.run("return document.getElementById(arguments[0])?.textContent ?? ''", element))

    def click(self, element: str) -> None:
        """Click the element with an id."""
        self.run("document.getElementById(arguments[0]).click()", element)

    def set(self, element: str, value: str) -> None:
        """Set the value of a field."""
        self.run("document.getElementById(arguments[0]).value = arguments[1]", element, value)

    def is_enabled(self, element: str) -> bool:
        """Whether a button can be used."""
        return bool(self.run("return document.getElementById(arguments[0])?.disabled === false", element))

    def wait(self, what: Callable[[], object], seconds: float = 90) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                shown = self.run("return document.body.innerText")
                raise AssertionError(f"not so after {seconds} s; the page shows:\n{shown}\n{self.log()}")
            time.sleep(0.1)

    def log(self) -> list[str]:
        """What the browser wrote to its console since the last call."""
        return [item["message"] for item in self._post("/se/log", {"type": "browser"})]

    def minimize(self) -> None:
        """Hide the page, as a phone does when its person goes to another app."""
        self._post("/window/minimize", {})

    def maximize(self) -> None:
        """Show it again."""
        self._post("/window/maximize", {})

    def screenshot(self) -> str:
        """The whole page as PNG, base64."""
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return str(found["data"])

    def quit(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError, AssertionError):
            self._call("DELETE", f"/session/{self._session}")

    # What a person does on the page.

    def load_model(self) -> str:
        """Press the button and wait; returns what the page says."""
        self.wait(lambda: self.is_enabled("load"))
        self.click("load")
        self.wait(lambda: self.text("model-status").startswith("Ready"))
        return self.text("model-status")

    def say(self, said: str) -> str:
        """Send a message; returns the reply."""
        self.set("said", said)
        self.click("send")
        self.wait(lambda: self.is_enabled("send"))
        return str(self.run("return document.querySelector('#turns').lastChild.lastChild.textContent"))

    def measure(self) -> str:
        """Run the bench; returns what the page says in the end."""
        self.click("measure")
        self.wait(lambda: not self.is_enabled("measure"), 10)
        self.wait(lambda: self.is_enabled("measure"), 400)
        return self.text("bench-status")


@contextlib.contextmanager
def chromedriver(tmp_path: Path) -> Iterator[str]:
    """A running driver's address; skips the test where there is no Chromium."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("Chromium and its driver are not here (Debian: apt-get install chromium chromium-driver)")
    with open(tmp_path / "chromedriver.log", "w") as log:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            line = ""
            while "started successfully on port" not in line:
                line = process.stdout.readline()
                assert line, "chromedriver ended"
            yield "http://127.0.0.1:" + line.rstrip(".\n").rsplit(" ", 1)[-1]
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()


@contextlib.contextmanager
def browser(driver: str, *arguments: str) -> Iterator[Browser]:
    """A browser that is closed in the end."""
    opened = Browser(driver, *arguments)
    try:
        yield opened
    finally:
        opened.quit()
