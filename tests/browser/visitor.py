"""Somebody who looks at the console with Chromium."""

import shutil

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright

from tests.browser.installation import Installation

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def show_all(page: Page, width: int, height: int) -> None:
    """The whole page in one window, of at least this height: what sticks to the window's edges covers nothing then."""
    page.set_viewport_size({"width": width, "height": height})
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(height, whole)})


def launch(playwright: Playwright, path: str) -> Browser:
    # Without the sandbox, which a container's root may not have: it visits nothing but this machine.
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


class Visitor:
    """Opens pages as an operator, each in a browser of its own, and remembers what the browser complained of."""

    def __init__(self, browser: Browser, installation: Installation) -> None:
        self._browser, self._installation = browser, installation
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def __call__(
        self,
        path: str = "",
        *,
        role: str = "administrator",
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        language: str = "en",
        script: bool = True,
        zone: str = "UTC",
        status: int = 200,
    ) -> Page:
        context = self._browser.new_context(
            base_url=self._installation.address,
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale=language,
            reduced_motion="reduce",  # a colour on its way to another is neither
            java_script_enabled=script,
            timezone_id=zone,
        )
        context.set_default_timeout(10_000)
        self._contexts.append(context)
        if role:
            session = self._installation.session(role)
            context.add_cookies([{"name": "sessionid", "value": session, "url": self._installation.address}])
        page = context.new_page()
        page.on("console", lambda message: self._hear(message, status))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if path:
            answer = page.goto(path)
            assert answer is None or answer.status == status, path
        return page

    def _hear(self, message: ConsoleMessage, status: int) -> None:
        expected = status >= 400 and f"status of {status}" in message.text
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
