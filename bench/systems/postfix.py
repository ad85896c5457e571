"""Postfix from Debian's package: `virtual_alias_maps`, `relayhost` to the sink, its default limits; an instance of its own in a temporary folder.

The machine's own instance is neither read nor touched. What differs from the defaults is what groups of this size need at all (they are named in
`LIMITS`), and where files lie. It writes a mail log, as every installation does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.measure import Roots
from bench.systems import CannotRun, Group, Setup
from tests.support import keeper
from tests.support.install import require
from tests.support.ports import free_port, release_port
from tests.support.runner import CannotServe
from tests.support.trees import kill_family
from tests.support.waiting import wait_until

LIMITS: Mapping[str, str] = {
    "virtual_alias_expansion_limit": "2000000",
    "virtual_alias_recursion_limit": "1000",
    "duplicate_filter_limit": "0",
    "message_size_limit": "104857600",
    "mailbox_size_limit": "0",
}
START_TIMEOUT = 30.0
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
local     unix - n n - - local
virtual   unix - n n - - virtual
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""
"""Debian's master.cf without chroot, which the instance's folder is not prepared for."""


class Postfix:
    """One instance."""

    name = "postfix"
    protocol = "smtp"

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    def start(self, setup: Setup) -> None:
        self._install()
        self._folder = setup.folder
        self.port = free_port()
        self._configure(setup)
        # Not `master` itself: this makes the queue's folders and checks them first.
        log = (self._folder / "start.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                ["postfix", "-c", str(self._folder / "etc"), "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        keeper.keep(self._process.pid)
        try:
            wait_until(self._answers, "Postfix to answer", START_TIMEOUT)
        except AssertionError as late:
            raise RuntimeError(f"{late}; it said:\n{self.said()}") from None

    def _install(self) -> None:
        if os.geteuid() != 0:
            raise CannotRun("Postfix starts as root only")
        if shutil.which("postfix") is None:
            try:
                require(("postfix",))
            except CannotServe as why:
                raise CannotRun(str(why)) from why

    def _configure(self, setup: Setup) -> None:
        self._folder.chmod(0o755)
        etc, data, queue = (self._folder / name for name in ("etc", "data", "queue"))
        for folder in (etc, data, queue):
            folder.mkdir()
        shutil.copy("/etc/postfix/postfix-files", etc)
        shutil.chown(data, "postfix")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "myhostname": "mx.example.test",
            "mydestination": "",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "virtual_alias_domains": "example.test",
            "virtual_alias_maps": f"hash:{etc}/virtual",
            "relayhost": f"[127.0.0.1]:{setup.next_hop}",
            "alias_maps": "",
            "maillog_file": str(self._folder / "mail.log"),
            "maillog_file_prefixes": str(self._folder),
            **({"smtp_destination_recipient_limit": "1"} if setup.single else {}),
            **LIMITS,
        }
        (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (etc / "master.cf").write_text(MASTER.format(port=self.port))
        (etc / "virtual").touch()
        self._postmap()

    def _postmap(self) -> None:
        etc = self._folder / "etc"
        command = ["postmap", "-c", str(etc), f"hash:{etc}/virtual"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"postmap: {done.stderr}")

    def load(self, groups: Sequence[Group]) -> None:
        with (self._folder / "etc" / "virtual").open("a") as file:
            for group in groups:
                if group.members:  # an alias of nobody is an error
                    file.write(f"{group.address} {', '.join(group.members)}\n")
        self._postmap()

    def bulk(self, group: str, path: Path) -> None:
        members = path.read_text().split()[1:]
        self.load([Group(group, members)])

    def count(self, group: str) -> int:
        command = ["postmap", "-c", str(self._folder / "etc"), "-q", group, f"hash:{self._folder}/etc/virtual"]
        # status 1: there is no such alias
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return len(set(found.replace(",", " ").split()))

    def bus(self) -> dict[str, int]:
        return {}

    def roots(self) -> Roots:
        assert self._process is not None
        return {"postfix": [self._process.pid]}

    def versions(self) -> Mapping[str, str]:
        done = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=True)
        return {"Postfix": done.stdout.strip()}

    def said(self) -> str:
        texts = [self._folder / name for name in ("start.log", "mail.log")]
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in texts if path.exists())

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                kill_family(psutil.Process(self._process.pid))  # type: ignore[no-untyped-call]
            self._process.wait()
            keeper.forget(self._process.pid)
            release_port(self.port)
        self._process = None

    def _answers(self) -> bool:
        # Not asked by a connection: the smtpd that takes it would know no groups for as long as it lives.
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"Postfix ended with {self._process.returncode}")
        return "daemon started" in self.said()
