"""A page in HTML as a test reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Text, elements and everything that a browser would fetch; refuses what is not well-formed.

    Attributes
    ----------
    sources : of images, scripts and links that leave the page
    anchors, ids : links within the page, and where they lead
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text())
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._take(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._take(tag, attrs)

    def _take(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            text = value or ""
            if name in ("src", "href", "xlink:href"):
                inside = text.startswith("#")
                (self.anchors if inside else self.sources).append(text.removeprefix("#"))
            elif name == "id":
                assert text not in self.ids, f"twice: {text}"
                self.ids.append(text)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
