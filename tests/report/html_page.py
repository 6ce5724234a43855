"""What a page holds, read by the standard library's parser."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "wbr"}


class Page(HTMLParser):
    """The elements of a page.

    Attributes:
        ids: Of all elements that have one.
        addresses: What elements load or point to.
        texts: Everything that a reader sees, and the content of scripts.
        tags: Names of all elements.
        open: Elements that were not closed.
    """

    def __init__(self, html):
        super().__init__()
        self.ids, self.addresses, self.texts, self.tags, self.open = set(), [], [], [], []
        self.images = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.add(given["id"])
        self.addresses += [given[key] for key in ("src", "href", "xlink:href", "action") if given.get(key)]
        if tag == "img":
            self.images.append(given)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())
