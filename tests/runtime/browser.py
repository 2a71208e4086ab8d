"""Headless Chromium for tests of pages.

Skipped without Chromium, its driver or selenium; TSM_REQUIRE_BROWSER=1 turns that into a failure.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

PHONE = (360, 740)
DESKTOP = (1280, 800)


def missing(what: str) -> Any:
    if os.environ.get("TSM_REQUIRE_BROWSER"):
        pytest.fail(f"TSM_REQUIRE_BROWSER is set, but there is no {what}")
    pytest.skip(f"no {what}")


def found(*names: str) -> str:
    return next((path for name in names if (path := shutil.which(name))), None) or missing(names[0])


class Browser:
    """Headless Chromium with what the tests ask of it."""

    def __init__(self, profile: Path) -> None:
        try:
            from selenium import webdriver
        except ImportError:
            missing("selenium")
        options = webdriver.ChromeOptions()
        options.binary_location = found("chromium", "chromium-browser", "google-chrome")
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
        for flag in (*flags, "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=found("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(120)

    def open(
        self,
        page: Path | str,
        size: tuple[int, int] = DESKTOP,
        theme: str = "light",
        ready: str = "document.documentElement.dataset.ready === 'yes'",
    ) -> None:
        """Open a file or an address and wait until an expression is true."""
        phone = size[0] < 600
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": phone}
        media = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page if isinstance(page, str) else page.as_uri())
        self.until(ready)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: str) -> None:
        """Wait in the page itself until an expression is true."""
        done = self.driver.execute_async_script(
            "const [, done] = arguments; const end = performance.now() + 90000;"
            f"const look = () => ({condition}) ? done(true) : performance.now() > end ? done(false)"
            " : setTimeout(look, 20); look();",
            None,
        )
        assert done, condition

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        """Click an element, also one that the page draws again between finding and clicking."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.common.by import By

        for _ in range(20):
            try:
                self.driver.find_element(By.CSS_SELECTOR, selector).click()
            except StaleElementReferenceException:
                continue
            return
        raise AssertionError(f"{selector} is drawn again and again")

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self, path: Path) -> bytes:
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(taken["data"]))
        return path.read_bytes()

    def shown(self, selector: str) -> list[str]:
        return list(
            self.run(
                "return [...document.querySelectorAll(arguments[0])]"
                ".filter(e => e.checkVisibility({visibilityProperty: true}))"
                ".map(e => e.getAttribute('aria-label') || e.textContent)",
                selector,
            )
        )
