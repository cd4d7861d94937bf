"""Chromium without a screen, driven by selenium; both as they come: Debian's `chromium` and `chromium-driver`, pip's `selenium`."""

import shutil
import sys

from packages import installed

PACKAGES = installed(".ci/browser.lock")
sys.path.insert(0, str(PACKAGES))

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

AXE = (PACKAGES / "axe_playwright_python/axe.min.js").read_text(encoding="utf-8")
# A rebuild gives way to everything else on the machine.
WAIT_S = 180
__all__ = ["Keys", "Page"]


class Page:
    """The console in a browser. `$`-like helpers take CSS selectors and wait for what should be there: nothing here sleeps."""

    def __init__(self, address):
        self.address = address
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or sys.exit("there is no chromium: apt-get install chromium chromium-driver")
        # In a container: root, and little shared memory.
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--no-proxy-server"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.run = self.driver.execute_script
        self.look()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def look(self, width=1280, height=900, dark=False):
        """How it is looked at."""
        self.width = width
        phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def go(self, route):
        """Loads the page anew."""
        self.driver.get("about:blank")
        self.driver.get(f"http://{self.address}/{route}")

    def until(self, holds, says):
        """Waits until it holds, and returns what it is; elements that are replaced meanwhile are looked for again."""
        wait = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: holds(), says)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, text=""):
        """The first such element with the text that can be seen."""
        found = lambda: next((e for e in self.all(selector) if e.is_displayed() and text in e.text), None)
        return self.until(found, f"there is no {selector} {text!r}")

    def text(self, selector):
        return self.one(selector).text

    def click(self, selector, text=""):
        element = self.one(selector, text)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def write(self, selector, text):
        element = self.one(selector)
        element.clear()
        element.send_keys(text)

    def keys(self, *keys):
        """Keys as a person presses them, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.driver.switch_to.active_element

    def errors(self):
        """What the browser has complained about since it was last asked: scripts, the content security policy, failed requests."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def overflow(self):
        """How many pixels the page is wider than it is looked at."""
        return self.run("return document.documentElement.scrollWidth - arguments[0]", self.width)

    def hindrances(self):
        """What axe finds that keeps people from using the page, as `rule: elements`."""
        self.run(AXE)
        found = self.driver.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
        assert found["passes"], "axe looked at nothing"
        return [f"{v['id']} ({v['impact']}): {[n['target'] for n in v['nodes']][:5]}" for v in found["violations"]]
