"""`horo send`: sends a message through the real door, SMTP, as any client would; for trying things out and for scripts."""

from __future__ import annotations

import asyncio
import smtplib
import sys
import time
import unicodedata
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cli import access
from cli.output import CommandError, Exit, Json, clean, fail, print_json, say
from shared.replies import TransientError
from shared.settings import Settings, endpoint

To = Annotated[list[str], Parameter(name="--to", negative="", help="A recipient; may be given several times.")]
Notify = Annotated[
    list[str] | None,
    Parameter(name="--notify", negative="", help="Ask for delivery reports: success, failure, delay, never."),
]


NOTIFY = ("success", "failure", "delay", "never")


async def send(
    *,
    to: To,
    from_: Annotated[str, Parameter(name="--from")] = "visitor@example.net",
    subject: str = "",
    text: str = "",
    file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    via: str = "",
    notify: Notify = None,
    wait: float = 10.0,
    json: Json = False,
) -> None:
    """Send a message to a group over SMTP, then tell who got it.

    Parameters
    ----------
    from_
        The sender, in the envelope and in From:.
    subject
        The subject.
    text
        The text; empty for a short one that says what it is.
    file
        Send this message (RFC 5322) as it is; "-" is standard input.
    via
        The server, host:port; empty for HORO_SMTP_LISTEN.
    wait
        Seconds to wait for the outcome; 0 not to wait.
    """
    settings = access.settings()
    for name, value in (("--from", from_), ("--subject", subject), *(("--to", one) for one in to)):
        _one_line(name, value)
    if unknown := [word for word in notify or () if word.lower() not in NOTIFY]:
        raise CommandError(f"--notify: {unknown[0]!r} is not one of {', '.join(NOTIFY)}", Exit.USAGE)
    host, port = _server(via or settings.smtp_listen)
    message, message_id = _message(to, from_, subject, text, file)
    reply = await asyncio.to_thread(_submit, host, port, from_, to, message, notify or [])
    accepted = {"accepted": reply, "message_id": message_id, "to": to}
    if wait <= 0 or via:
        print_json(accepted) if json else say(
            f"accepted: {reply}; `horo trace '{message_id}'` tells who got it", "green"
        )
        return
    if not json:
        say(f"accepted: {reply}", "green")
    await _tell_outcome(settings, accepted, message_id, wait, json)


async def _tell_outcome(settings: Settings, accepted: dict[str, Any], message_id: str, wait: float, json: bool) -> None:
    """Who got it, as far as is known within `wait` seconds.

    Trouble here is told and is no failure: the message is accepted, and an exit code of 75 would have a script send it again.
    """
    from cli.trace import documents, show_posts, view_of

    posts: Any = []
    told: list[dict[str, Any]] = []
    try:
        async with access.ledger() as ledger:
            posts = await _settled(ledger, message_id, wait)
            told = await documents(ledger, posts, view_of(settings)) if json else []
            if posts and not json:
                await show_posts(ledger, posts, view_of(settings))
    except TransientError as error:
        fail(f"the ledger does not answer ({error.why or error}), but the message is accepted")
    if json:
        print_json({**accepted, "posts": told})
    elif not posts:
        say(f"not expanded yet; `horo trace '{clean(message_id)}'` will tell who got it", "yellow")


def _message(to: list[str], sender: str, subject: str, text: str, file: Path | None) -> tuple[bytes, str]:
    """The message's bytes with CRLF, and its Message-ID."""
    if file is not None:
        try:
            raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise CommandError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error
        from shared.headers import split
        from shared.policy import message_id

        raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return raw, message_id(split(raw)[0]) or ""
    plain = all(text.isascii() for text in (sender, *to))
    message = EmailMessage(policy.SMTP if plain else policy.SMTPUTF8)
    message["From"], message["To"] = sender, ", ".join(to)
    message["Subject"] = subject or "A message from horo send"
    message["Date"], message["Message-ID"] = (
        formatdate(localtime=True),
        make_msgid(domain=sender.rpartition("@")[2] or None),
    )
    message.set_content(text or "This message was made by `horo send`, to see the circle turn.\n")
    return message.as_bytes(), str(message["Message-ID"])


def _server(address: str) -> tuple[str, int]:
    if not address:
        raise CommandError("HORO_SMTP_LISTEN is empty: name a server with --via host:port", Exit.USAGE)
    try:
        return endpoint(address)
    except ValueError as error:
        raise CommandError(f"--via: {address!r} is no server: write it as host:port", Exit.USAGE) from error


def _one_line(name: str, text: str) -> None:
    """What goes into a command or a header is one line. (The server looks at addresses; here they only must not become two commands.)"""
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise CommandError(f"{name}: control characters and line ends cannot stand in it", Exit.USAGE)


def _submit(host: str, port: int, sender: str, to: list[str], message: bytes, notify: list[str]) -> str:
    """Hand the message over; the server's reply to it. Raises `CommandError` with the server's words."""
    try:
        with smtplib.SMTP(host, port, timeout=90) as client:
            client.ehlo()
            _expect(client.docmd("MAIL", f"FROM:<{sender}>{_parameters(client, to, sender)}"), sender)
            wanted = f" NOTIFY={','.join(word.upper() for word in notify)}" if notify else ""
            for recipient in to:
                _expect(client.docmd("RCPT", f"TO:<{recipient}>{wanted}"), recipient)
            code, text = client.data(message)
            return _expect((code, text), "the message")
    except UnicodeEncodeError as error:
        raise CommandError(f"{host}:{port} takes no addresses beyond ASCII (SMTPUTF8)", Exit.FAILED) from error
    except smtplib.SMTPException as error:
        raise CommandError(f"{host}:{port}: {error}", Exit.FAILED) from error
    except OSError as error:
        raise CommandError(
            f"no mail server answers on {host}:{port} ({error.strerror or error}): is `horo up` running?",
            Exit.UNAVAILABLE,
        ) from error


def _parameters(client: smtplib.SMTP, to: list[str], sender: str) -> str:
    plain = all(address.isascii() for address in (*to, sender))
    return "" if plain or not client.has_extn("smtputf8") else " SMTPUTF8 BODY=8BITMIME"


def _expect(reply: tuple[int, bytes], about: str) -> str:
    code, text = reply
    words = text.decode("utf-8", "replace")
    if code // 100 == 2:
        return f"{code} {words}"
    raise CommandError(f"{about} was refused: {code} {words}", Exit.UNAVAILABLE if code // 100 == 4 else Exit.FAILED)


async def _settled(ledger: Any, message_id: str, wait: float) -> Any:
    """The posts of this message once nothing is on its way, or as they are when `wait` seconds are over."""
    end = time.monotonic() + wait
    while True:
        posts = await ledger.find(message_id=message_id)
        done = posts and all(post.totals.complete and not post.totals.deferred for post in posts)
        if done or time.monotonic() > end:
            return posts
        await asyncio.sleep(0.1)
