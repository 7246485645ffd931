"""A headless Chromium by WebDriver (W3C 2018): chromedriver speaks JSON over HTTP."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "needs Chromium and its driver: apt-get install chromium chromium-driver"
KEYS = {"left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "home": "\ue011"}
KEYS |= {"end": "\ue010", "escape": "\ue00c", "tab": "\ue004", "enter": "\ue007", "shift": "\ue008"}

#: Resolves once the page has drawn what it was asked for.
DRAWN = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"

ARGUMENTS = [
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
]
if hasattr(os, "geteuid") and os.geteuid() == 0:
    ARGUMENTS.append("--no-sandbox")  # which Chromium does not offer to root


class Browser:
    """One window; ``with`` ends it."""

    def __init__(self, profile: Path) -> None:
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started = next(line for line in self._driver.stdout if "started successfully" in line)
        self._base = f"http://127.0.0.1:{started.rsplit(' ', 1)[1].strip().rstrip('.')}/session"
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._base += "/" + made["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._request("DELETE", "")
        self._driver.terminate()
        self._driver.wait()
        self._driver.stdout.close()

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def _post(self, path, body):
        return self._request("POST", path, body)

    def open(self, path: Path, width: int = 1400, height: int = 900) -> None:
        """Load a page in a window of a size, light unless told otherwise."""
        self.resize(width, height)
        self.prefer("light")
        self._post("/url", {"url": path.as_uri()})

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Give the page another size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1 + phone}
        self.devtools("Emulation.setDeviceMetricsOverride", mobile=phone, **metrics)

    def prefer(self, scheme: str) -> None:
        """Prefer light or dark, as a system setting does."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def devtools(self, command: str, **parameters):
        """Send a command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str):
        """Evaluate an expression in the page, after it has drawn what is pending."""
        told = self.devtools(
            "Runtime.evaluate",
            expression=f"{DRAWN}.then(() => ({script}))",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, *names: str) -> None:
        """Press keys one after the other; ``shift+right`` holds one."""
        actions = []
        for name in names:
            keys = [KEYS.get(k, k) for k in (name.split("+") if len(name) > 1 else [name])]
            actions += [{"type": "keyDown", "value": k} for k in keys]
            actions += [{"type": "keyUp", "value": k} for k in reversed(keys)]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self._mouse({"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0})

    def click(self, x: float, y: float) -> None:
        """Press the mouse at a point of the window."""
        self.hover(x, y)
        self._mouse({"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    def _mouse(self, *actions) -> None:
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self._post("/actions", {"actions": [mouse]})

    def errors(self) -> list[str]:
        """What the console has said since this was asked last."""
        return [entry["message"] for entry in self._post("/se/log", {"type": "browser"})]

    def screenshot(self, path: Path, full: bool = False) -> None:
        """Write what the window shows, or the whole page."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"never: {condition}"
