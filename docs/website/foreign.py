"""What a page of the site would load from elsewhere: nothing may, so that it works offline and tells nobody who reads it."""

from __future__ import annotations

from html.parser import HTMLParser

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Loads(HTMLParser):
    """Addresses of other hosts that a browser loads by itself; a link that a reader follows is none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an address with a host."""
        address = dict(attrs).get(LOADED.get(tag, "")) or ""
        if address.startswith(("http:", "https:", "//")):
            self.found.append(address)


def foreign(html: str) -> list[str]:
    """Addresses of other hosts that a page loads."""
    page = Loads()
    page.feed(html)
    return page.found
