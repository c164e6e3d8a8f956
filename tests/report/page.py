"""A rendered page, parsed: its tags and attributes, and its words without the style sheet."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
UNSPOKEN = {"style", "sup", "title"}
"""Elements whose text is no statement about the model: the sheet, and exponents of the axes' labels."""


class Page(HTMLParser):
    """Collects tags, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if not UNSPOKEN & set(self.open):
            self.text.append(data)


def words(text: str) -> str:
    return " ".join(" ".join(Page(text).text).split()).replace(" :", ":").replace(" ,", ",")
