"""Alias files as groups: what Postfix would read is what is shown, what is shown is what is made, and what no group can do is told with its line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from cli.migrate.aliases import File, NeedsDomain, logical_lines, read, split
from cli.migrate.found import Found
from tests.cli.conftest import Horo

ALIASES = """\
# Basic system aliases
postmaster: root
root:   ana,
        boris@gmail.test
office: ana, boris, "Vera Ilieva" <vera@gmail.test>,
  # a comment in between
  :include:/etc/mail/office.list
owner-office: ana
support: "|/usr/bin/rt-mailgate --queue general", \\dora
nobody: /dev/null
"""
OFFICE = "# people\nivan@example.net\nMaria <maria@example.net>\n"


def found(text: str, *, domain: str = "example.com", **files: str) -> Found:
    """What a file with this text asks for; `files` by the names that it includes."""

    def include(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return read([File("aliases", text)], domain=domain, include=include)


def members(found: Found) -> dict[str, list[str]]:
    return {group.address: [one.address for one in group.members] for group in found.groups}


def refused(found: Found) -> list[tuple[str, str]]:
    return [(one.where, one.what) for one in found.refused]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b, c", ["b@example.com", "c@example.com"]),
        ("a : b,c", ["b@example.com", "c@example.com"]),
        ("a:b", ["b@example.com"]),
        ("A: B@Example.NET", ["B@example.net"]),
        ("a: b (a comment, with a comma)", ["b@example.com"]),
        ("a: \\b", ["b@example.com"]),
        ('a: "Ilieva, Vera" <vera@x.test>, c', ["vera@x.test", "c@example.com"]),
        ('a: "john smith"@x.test', ['"john smith"@x.test']),
        ("a: b,\n\tc,\n  # no value\n\n  d", ["b@example.com", "c@example.com", "d@example.com"]),
        ("a: b, b, B", ["b@example.com"]),
        ("a@example.com  b@x.test", ["b@x.test"]),
        ("a@example.com  b@x.test c@x.test", ["b@x.test", "c@x.test"]),
        ("a@example.com  b@x.test,\n    c@x.test", ["b@x.test", "c@x.test"]),
        ("a@example.com: b@x.test", ["b@x.test"]),
        ("a  b", ["b@example.com"]),
        ('"a": b', ["b@example.com"]),
    ],
)
def test_a_line_is_read_as_postfix_reads_it(text: str, expected: list[str]) -> None:
    result = found(text)
    assert members(result) == {"a@example.com": expected}
    assert result.refused == []


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ('a: "|/usr/bin/vacation ana"', "|/usr/bin/vacation ana", "command"),
        ("a: |/usr/bin/vacation", "|/usr/bin/vacation", "command"),
        ('a: "|/usr/lib/mailman/mail/mailman post a"', "mailman", "horo import mailman"),
        ("a: /var/mail/archive", "/var/mail/archive", "a file"),
        ("a: /dev/null", "/dev/null", "throws mail away"),
        ("a: :include:/none", ":include:/none", "No such file"),
        ("a: :blackhole:", ":blackhole:", "special"),
        ("a: Ana Petrova", "Ana Petrova", "several words"),
        ("a@example.com @example.net", "@example.net", "rewrites"),
        ("@example.com ana@x.test", "@example.com", "catches all"),
        ("/^(.*)-x@example.com$/ ana@x.test", "/^", "regular expression"),
        ("a: a, b", "a@example.com", "its own member"),
        ("a@example.com a+copy@example.com b@x.test", "a@example.com", "its own member"),
        ('"a b": c', "a b", "no name for a group"),
        ("list-bounces: c", "list-bounces", "reserved"),
        ("a: b@x..test", "b@x..test", "no member's address"),
        ("a:", "a", "no values"),
        (": b", ": b", "neither"),
        ("a: b\nA: c", "A@example.com", "aliases:1"),
        ("postmaster: a, b", "postmaster@example.com", "one address"),
    ],
)
def test_what_no_group_can_do_is_told_with_its_line_and_never_made(text: str, what: str, why: str) -> None:
    result = found(text)
    [told] = [one for one in result.refused if what in one.what]
    assert why in told.why
    assert told.where.startswith("aliases:")
    assert members(result) in ({}, {"a@example.com": ["b@example.com"]})


def test_a_command_beside_people_leaves_the_people() -> None:
    result = found("support: ana, |/bin/rt, boris")
    assert members(result) == {"support@example.com": ["ana@example.com", "boris@example.com"]}
    assert refused(result) == [("aliases:1", "support@example.com: |/bin/rt")]


def test_included_files_are_read_with_their_own_lines_and_never_in_a_circle() -> None:
    result = found("a: :include:one", one="# people\nb, c\n:include:two\n", two="d\n:include:one\n|cat\n")
    assert members(result) == {"a@example.com": ["b@example.com", "c@example.com", "d@example.com"]}
    assert refused(result) == [("two:2", "a@example.com: :include:one"), ("two:3", "a@example.com: |cat")]


def test_an_owner_entry_becomes_the_groups_owners_and_no_group() -> None:
    result = found("owner-office: ana, vera@x.test\noffice: boris\nother-owner: ana\nother: boris\nowner-none: ana")
    assert {group.address: group.settings.get("owners") for group in result.groups} == {
        "office@example.com": ("ana@example.com", "vera@x.test"),
        "other@example.com": ("ana@example.com",),
        "owner-none@example.com": None,
    }


def test_virtual_domains_and_postmasters_become_domains() -> None:
    result = found("example.org  anything\npostmaster@example.org ana@x.test\npostmaster: root\n")
    assert result.domains == {"example.org": "ana@x.test", "example.com": "root@example.com"}
    assert result.groups == []


def test_a_bare_name_without_a_domain_is_asked_about_with_its_line() -> None:
    with pytest.raises(NeedsDomain, match="aliases:2: boris"):
        found("a@example.com b@example.com\nb@example.com boris", domain="")
    assert members(found("a@example.com b@example.com", domain="")) == {"a@example.com": ["b@example.com"]}


def test_ten_thousand_values_and_hostile_text_are_read_in_one_pass() -> None:
    assert len(split(",".join(f"m{n}@x.test" for n in range(10_000)))) == 10_000
    assert split('"' * 10_000)
    assert split("(" * 10_000)
    assert list(logical_lines("  begins with a space\nb")) == [(1, "begins with a space"), (2, "b")]
    assert [one.why for one in found("a: b\x00c@x.test").refused]


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of another machine's files."""
    (tmp_path / "etc/mail").mkdir(parents=True)
    (tmp_path / "etc/aliases").write_text(ALIASES)
    (tmp_path / "etc/mail/office.list").write_text(OFFICE)
    return tmp_path


def words(files: Path, *more: str) -> tuple[str, ...]:
    return ("import", "aliases", str(files / "etc/aliases"), "--root", str(files), "--domain", "example.com", *more)


def test_it_shows_what_it_would_do_and_does_nothing(files: Path, horo: Horo) -> None:
    done = horo(*words(files))
    assert done.status == 0
    for line in ("+ office@example.com", "+ vera@gmail.test", "+ domain example.com  postmaster=root@example.com"):
        assert line in done.out
    assert "|/usr/bin/rt-mailgate --queue general: a command" in done.out
    assert "Nothing was changed" in done.out
    assert horo("group", "list", "--json").json == []
    assert horo("domain", "list", "--json").json == []


def test_applied_once_it_is_made_and_applied_twice_it_is_kept(files: Path, horo: Horo) -> None:
    made = horo(*words(files, "--apply", "--json"))
    assert made.status == 0
    assert {one["address"]: one["action"] for one in made.json["groups"]} == {
        "root@example.com": "create",
        "office@example.com": "create",
        "support@example.com": "create",
    }
    assert made.json["applied"] is True
    assert [one["what"] for one in made.json["refused"]] == [
        "support@example.com: |/usr/bin/rt-mailgate --queue general",
        "nobody@example.com: /dev/null",
    ]
    group = horo("group", "show", "office@example.com", "--json").json
    assert group["members"] == 5
    assert group["settings"]["owners"] == ["ana@example.com"]
    assert not any(group["settings"][name] for name in ("reply_to_group", "remove_author", "reject_automatic"))
    [domain] = horo("domain", "list", "--json").json
    assert domain["postmaster"] == "root@example.com"
    again = horo(*words(files, "--apply", "--json")).json
    assert {one["action"] for one in again["groups"] + again["domains"]} == {"keep"}


def test_a_group_that_is_here_gets_who_it_lacks_and_keeps_the_rest(files: Path, horo: Horo) -> None:
    horo("group", "create", "office@example.com", "--member", "vera@gmail.test", "--member", "own@example.com")
    done = horo(*words(files, "--apply"))
    assert "~ office@example.com" in done.out
    assert "reply_to_group stays on" in done.out
    group = horo("group", "show", "office@example.com", "--json").json
    assert group["settings"]["reply_to_group"] is True
    assert sorted(group["first_members"]) == [
        "ana@example.com",
        "boris@example.com",
        "ivan@example.net",
        "maria@example.net",
        "own@example.com",
        "vera@gmail.test",
    ]


def test_with_replace_a_group_becomes_as_it_was_there(files: Path, horo: Horo) -> None:
    horo("group", "create", "office@example.com", "--member", "vera@gmail.test", "--member", "own@example.com")
    done = horo(*words(files, "--apply", "--replace"))
    assert "- own@example.com" in done.out
    group = horo("group", "show", "office@example.com", "--json").json
    assert group["settings"]["reply_to_group"] is False
    assert group["members"] == 5
    assert "own@example.com" not in group["first_members"]
    assert "3 as they should be" in horo(*words(files, "--replace")).out


def test_settings_of_the_command_come_before_the_files_and_only_takes_a_part(files: Path, horo: Horo) -> None:
    horo(*words(files, "--apply", "--only", "office@*", "--set", "reply_to_group=on", "--set", "envelope=alias"))
    [group] = horo("group", "list", "--json").json
    assert group["address"] == "office@example.com"
    assert group["settings"]["reply_to_group"] is True
    assert group["settings"]["envelope"] == "alias"


def test_an_include_never_leads_out_of_the_root(files: Path, horo: Horo) -> None:
    (files.parent / "secret.list").write_text("hidden@example.net\n")
    (files / "etc/aliases").write_text(
        f"a: :include:/../{files.parent.name}/secret.list, :include:/../secret.list, b\n"
    )
    done = horo(*words(files, "--json"))
    [group] = done.json["groups"]
    assert group["add"] == ["b@example.com"]
    assert len(done.json["refused"]) == 2


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [(None, (), "cannot read"), (b"\xff\xfe", (), "no text in UTF-8"), (b"a: b", (), "--domain")],
)
def test_what_cannot_be_read_at_all_ends_it(
    content: bytes | None, more: tuple[str, ...], told: str, tmp_path: Path, horo: Horo
) -> None:
    path = tmp_path / "aliases"
    if content is not None:
        path.write_bytes(content)
    done = horo("import", "aliases", str(path), *more)
    assert done.status == 2
    assert told in done.err


def test_a_large_alias_is_made_whole(tmp_path: Path, horo: Horo) -> None:
    """Over ten thousand members are staged, with the group disabled until they are all there."""
    (tmp_path / "large.list").write_text("".join(f"m{number}@example.net\n" for number in range(10_500)))
    (tmp_path / "aliases").write_text("all@example.com: :include:/large.list\n")
    done = horo("import", "aliases", str(tmp_path / "aliases"), "--root", str(tmp_path), "--apply", "--json")
    assert done.status == 0
    group = horo("group", "show", "all@example.com", "--json").json
    assert (group["members"], group["settings"]["disabled"]) == (10_500, False)


def test_one_group_that_fails_holds_up_no_other(files: Path, horo: Horo, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.migrate import change
    from shared.directory import Conflict

    applied = change.apply

    async def apply(registry: object, step: change.Step, wanted: object) -> None:
        if step.address.startswith("office@"):
            raise Conflict("somebody made it meanwhile")
        await applied(registry, step, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(change, "apply", apply)
    done = horo(*words(files, "--apply"))
    assert done.status == 1
    assert "somebody made it meanwhile" in done.out
    assert [one["address"] for one in json.loads(horo("group", "list", "--json").out)] == [
        "root@example.com",
        "support@example.com",
    ]
    assert sqlite3.connect(files / "var/horo.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
