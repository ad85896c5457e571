"""Mailboxes in header fields (From:, To:, Cc:), read by one strict parser (RFC 5322 3.4) that is not recursive and is bounded.

What other parsers are known to be fooled by (encoded words in an address, comments or white space inside it, routes, text after the
bracket, nested comments by the thousand) is no address here, or one that is marked as not `clean`: no permission is given by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from shared.address import AddressError, key, parse

_SIMPLE = re.compile(
    r"[ \t]*+(?:[A-Za-z0-9 \t!#$&'*+/=?^_`{|}~.\x80-\U0010ffff-]*+<|\"(?:[^\"\\\x00-\x08\x0a-\x1f]|\\[\x20-\x7e])*+\"[ \t]*+<)?"
    r"([A-Za-z0-9._+=-]{1,64}@[A-Za-z0-9.-]{1,255})(>?)[ \t]*+(,|\Z)"
)
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]++)"
    r'|(?P<quoted>"(?:[^"\\]|\\.)*+")'
    r"|(?P<literal>\[[^\[\]\\]*+\])"
    r"|(?P<special>[()<>\[\],:;@.\"\\])"
    r"|(?P<atom>[^ \t\r\n()<>\[\],:;@.\"\\]++)",
    re.DOTALL,
)
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
_OTHER = ("space", "comment")
MAX_TOKENS = 20_000
"""Tokens that are looked at of elements that are not simple: one with a comment or a quoted local part has about ten."""


class Mailbox(NamedTuple):
    """An address of a header field as a key, and as it is spelled. `clean` where the field leaves no doubt that this is the one meant."""

    key: str
    clean: bool
    address: str


class _Token(NamedTuple):
    kind: str
    text: str


class _Reader:
    """Reads fields one after the other, until so many elements, or so many tokens of those that are not simple, have been looked at in all.

    The two bounds are those of time: a simple element costs a few microseconds, and so does a token.
    """

    def __init__(self, elements: int, tokens: int) -> None:
        self.elements = elements
        self._tokens = tokens

    def read(self, value: bytes) -> tuple[list[Mailbox], bool]:
        """The addresses of a field, and whether all of it was read and is well formed."""
        text = value.decode("utf-8", "surrogateescape")
        found: list[Mailbox] = []
        well_formed, position = True, 0
        while position < len(text):
            if self.elements <= 0:
                return found, False
            self.elements -= 1
            if (match := _SIMPLE.match(text, position)) and ("<" in match[0]) == bool(match[2]):
                position = match.end()
                box = _box(match[1])
            else:
                tokens, position, grouped = self._element(text, position)
                box, well_formed = _mailbox(tokens), well_formed and not grouped
            if box:
                found.append(box)
            well_formed = well_formed and box is not None and box.clean
        return found, well_formed and bool(found) and not text.endswith(",")

    def _element(self, text: str, position: int) -> tuple[list[_Token], int, bool]:
        """The tokens up to the next separator, where to go on, and whether that was group syntax (its name and its `;` are dropped)."""
        tokens: list[_Token] = []
        angle = grouped = False
        for token, end in _tokens(text, position):
            position = end
            self._tokens -= 1
            if self._tokens < 0:  # what follows is looked at no more, in this field and in those after it
                return [_Token("broken", "")], len(text), grouped
            if token.kind == "special":
                if token.text == "," and not angle:
                    return tokens, position, grouped
                if token.text == ":" and not angle:
                    tokens, grouped = [], True
                    continue
                if token.text == ";" and not angle:
                    return tokens, position, True
                angle = token.text == "<" or (angle and token.text != ">")
            tokens.append(token)
        return tokens, len(text), grouped


def mailboxes(value: bytes, *, limit: int) -> tuple[list[Mailbox], bool]:
    """The addresses among the first `limit` elements of an unfolded field, and whether all of it is well formed, without group syntax.

    Elements that are no address are left out, and the field is not well formed then. Linear in the octets of `value`, and bounded
    (`MAX_TOKENS`); never raises.
    """
    return _Reader(limit, MAX_TOKENS).read(value)


def addresses(values: Iterable[bytes], *, limit: int) -> frozenset[str]:
    """The keys of the addresses among the first `limit` elements of several fields together. Bounded as `mailboxes` is, over all of them."""
    reader = _Reader(limit, MAX_TOKENS)
    found: set[str] = set()
    for value in values:
        if reader.elements <= 0:
            break
        found.update(box.key for box in reader.read(value)[0])
    return frozenset(found)


def _tokens(text: str, position: int) -> Iterator[tuple[_Token, int]]:
    while match := _TOKEN.match(text, position):
        kind, position = match.lastgroup or "", match.end()
        if match[0] == "(":
            end = _comment_end(text, position)
            kind, position = ("comment", end) if end else ("broken", len(text))
        elif (
            match[0] == '"'
        ):  # never closed: what follows is looked at no more, or a thousand of them would cost a thousand scans
            kind, position = "broken", len(text)
        elif kind == "special" and match[0] in ")\\[]":
            kind = "broken"
        yield _Token(kind, match[0]), position


def _comment_end(text: str, position: int) -> int:
    """The end of a comment whose parenthesis was read; 0 for one that never ends. Counts instead of recursing: nesting is an attacker's."""
    depth = 1
    for match in _PARENTHESIS.finditer(text, position):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return 0


def _mailbox(tokens: list[_Token]) -> Mailbox | None:
    """One element: `addr-spec`, or `phrase <addr-spec>`; None where it is neither."""
    clean = not any(token.kind == "broken" for token in tokens)
    marks = [index for index, token in enumerate(tokens) if token.kind == "special" and token.text in "<>"]
    if not marks:
        return _addr_spec(tokens, clean=clean)
    if [tokens[index].text for index in marks] != ["<", ">"]:
        return None
    begin, end = marks
    if any(token.kind not in _OTHER for token in tokens[end + 1 :]):
        return None
    # An "@" in an unquoted display name is common and wrong: some software takes that for the address.
    phrase = all(token.kind in ("atom", "quoted", *_OTHER) or token.text == "." for token in tokens[:begin])
    return _addr_spec(tokens[begin + 1 : end], clean=clean and phrase)


def _addr_spec(tokens: list[_Token], *, clean: bool) -> Mailbox | None:
    begin, end = 0, len(tokens)
    while begin < end and tokens[begin].kind in _OTHER:
        begin += 1
    while end > begin and tokens[end - 1].kind in _OTHER:
        end -= 1
    tokens = tokens[begin:end]
    if any(token.kind in (*_OTHER, "broken") for token in tokens) or sum(len(token.text) for token in tokens) > 320:
        return None
    return _box("".join(token.text for token in tokens), clean=clean)


def _box(text: str, *, clean: bool = True) -> Mailbox | None:
    try:
        address = str(parse(text))
    except AddressError:
        return None
    return Mailbox(key(address), clean, address)
