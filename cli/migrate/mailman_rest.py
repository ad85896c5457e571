"""Reads lists from a Mailman 3 core by its REST API: only GET, over a few connections that stay open.

The answers are another program's: each is bounded, must be JSON, and is taken apart by the fields that are needed. The password goes to the one
host that was named, over the scheme that was named; a redirect is not followed.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cli.migrate.mailman import Export, MailmanList, Subscriber

PAGE = 500
CONNECTIONS = 4
TIMEOUT = 60.0
MAX_ANSWER = 64 << 20
# What an administrator has set; the short footer that Mailman adds of its own accord is told on the page about the migration.
FOOTERS = ("list:regular:header", "list:regular:footer", "list:member:regular:header", "list:member:regular:footer")


class MailmanError(Exception):
    """Mailman cannot be read; the text says why."""


class Rest:
    """One API, e.g. http://localhost:8001/3.1, as one administrator."""

    def __init__(self, url: str, user: str, password: str) -> None:
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MailmanError(f"{url} is no URL of Mailman's REST API: write http://localhost:8001/3.1")
        self._host, self._secure = parts.netloc.rpartition("@")[2], parts.scheme == "https"
        self._path = parts.path or "/3.1"
        self._headers = {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
        self._own = threading.local()

    def get(self, path: str, **query: object) -> dict[str, Any] | None:
        """The document at `path`; None where there is none (404). Raises `MailmanError`."""
        target = f"{self._path}/{path}" + (f"?{urlencode(query)}" if query else "")
        status, body = self._answer(target)
        if status == 404:
            return None
        if status in (401, 403):
            raise MailmanError(
                "Mailman refuses this user and password (admin_user, admin_pass under [webservice] of mailman.cfg)"
            )
        try:
            document = json.loads(body) if status == 200 else None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise MailmanError(f"{self._host} answered {status} for {target}: is that Mailman's REST API?")
        return document

    def entries(self, path: str) -> Iterator[dict[str, Any]]:
        """The entries of a collection, page by page."""
        page = 1
        while True:
            document = self.get(path, count=PAGE, page=page) or {}
            entries = document.get("entries") or []
            yield from entries
            if len(entries) < PAGE:
                return
            page += 1

    def _answer(self, target: str) -> tuple[int, bytes]:
        """One request; a connection that the server has closed meanwhile is made anew, once."""
        for last in (False, True):
            connection = self._connection()
            try:
                connection.request("GET", target, headers=self._headers)
                answer = connection.getresponse()
                return answer.status, self._body(answer)
            except (http.client.HTTPException, ConnectionError) as error:
                connection.close()
                if last:
                    raise MailmanError(f"{self._host} does not answer: {error or type(error).__name__}") from error
            except OSError as error:
                connection.close()
                raise MailmanError(f"{self._host} does not answer: {error}") from error
        raise AssertionError("unreachable")

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        body = answer.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER:
            raise MailmanError(f"an answer of {self._host} is larger than {MAX_ANSWER >> 20} MiB")
        return body

    def _connection(self) -> http.client.HTTPConnection:
        made: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if made is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            made = self._own.connection = kind(self._host, timeout=TIMEOUT)
        return made


def read(rest: Rest, wanted: Callable[[str], bool], told: Callable[[str, int], object]) -> Export:
    """All lists whose address is wanted; `told` hears of each list (address, members) as it is read. Raises `MailmanError`."""
    version = (rest.get("system/versions") or {}).get("mailman_version", "Mailman")
    lists = []
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for entry in list(rest.entries("lists")):
            if wanted(str(entry["fqdn_listname"])):
                lists.append(_read_list(rest, pool, str(entry["list_id"]), str(entry["fqdn_listname"])))
                told(lists[-1].address, len(lists[-1].members))
    return Export(mailman=str(version), lists=lists)


def _read_list(rest: Rest, pool: ThreadPoolExecutor, list_id: str, address: str) -> MailmanList:
    place = f"lists/{quote(list_id)}"
    members = list(rest.entries(f"{place}/roster/member"))
    config = rest.get(f"{place}/config") or {}
    return MailmanList(
        address=address,
        config={name: value for name, value in config.items() if not name.endswith("password")},
        members=list(pool.map(lambda one: _subscriber(one, _preferences(rest, one)), members)),
        owners=_addresses(rest.entries(f"{place}/roster/owner")),
        moderators=_addresses(rest.entries(f"{place}/roster/moderator")),
        nonmembers=[
            _subscriber(one, {}) for one in rest.entries(f"{place}/roster/nonmember") if "moderation_action" in one
        ],
        held=_count(rest.get(f"{place}/held/count")),
        requests=_count(rest.get(f"{place}/requests/count")),
        bans=int((rest.get(f"{place}/bans") or {}).get("total_size") or 0),
        header_matches=int((rest.get(f"{place}/header-matches") or {}).get("total_size") or 0),
        footer=any(one.get("name") in FOOTERS for one in (rest.get(f"{place}/uris") or {}).get("entries") or []),
    )


def _preferences(rest: Rest, member: Mapping[str, Any]) -> Mapping[str, Any]:
    """What holds for a member, the defaults of their address, of the person and of the site counted in."""
    return rest.get(f"members/{quote(str(member['member_id']))}/all/preferences") or {}


def _subscriber(member: Mapping[str, Any], preferences: Mapping[str, Any]) -> Subscriber:
    return Subscriber(
        email=str(member["email"]),
        display_name=str(member.get("display_name") or ""),
        delivery_mode=str(member.get("delivery_mode") or "regular"),
        moderation_action=str(member.get("moderation_action") or ""),
        delivery_status=str(preferences.get("delivery_status") or "enabled"),
        receive_own_postings=preferences.get("receive_own_postings") is not False,
        receive_list_copy=preferences.get("receive_list_copy") is not False,
    )


def _addresses(entries: Iterator[dict[str, Any]]) -> Sequence[str]:
    return [str(one["email"]) for one in entries]


def _count(document: Mapping[str, Any] | None) -> int:
    return int((document or {}).get("count") or 0)
