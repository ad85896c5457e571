"""The mail servers that Horo stands beside, from Debian's packages: a Postfix before and behind it, and an rspamd, each an instance of its own in a
temporary folder. The machine's own are neither read nor touched.
"""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.binaries import Binary, folder_for
from tests.support.install import require
from tests.support.ports import free_port
from tests.support.runner import CannotServe
from tests.support.waiting import wait_until

START = 60.0
MASTER = """\
127.0.0.1:{front} inet n - n - - smtpd
127.0.0.1:{behind} inet n - n - - smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,reject
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
smtp      unix - - n - - smtp
lmtp      unix - - n - - lmtp
relay     unix - - n - - lmtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""
"""Debian's master.cf without chroot and without what these tests do not use. `front` is where the world comes in, `behind` Horo's smarthost."""


def postfix(settings: Mapping[str, str]) -> tuple[Binary, int, int]:
    """A running Postfix with these settings over those of docs/how-to/beside-postfix.md, its front port, and the one behind. Raises `CannotServe`."""
    _have("postfix")
    folder, front, behind = folder_for("postfix"), free_port(), free_port()
    for name in ("etc", "data", "queue"):
        (folder / name).mkdir()
    shutil.copy("/etc/postfix/postfix-files", folder / "etc")
    shutil.chown(folder / "data", "postfix")
    own = {
        "compatibility_level": "3.6",
        "queue_directory": str(folder / "queue"),
        "data_directory": str(folder / "data"),
        "myhostname": "mx.front.test",
        "mydestination": "",
        "inet_protocols": "ipv4",
        "mynetworks": "127.0.0.0/8",
        "alias_maps": "",
        "maillog_file": str(folder / "mail.log"),
        "maillog_file_prefixes": str(folder),
        "queue_run_delay": "1s",
        "minimal_backoff_time": "1s",
        "maximal_backoff_time": "1s",
        **settings,
    }
    (folder / "etc/main.cf").write_text("".join(f"{key} = {value}\n" for key, value in own.items()))
    (folder / "etc/master.cf").write_text(MASTER.format(front=front, behind=behind))
    server = Binary(folder, ["postfix", "-c", str(folder / "etc"), "start-fg"], {}, [front, behind])
    log = folder / "mail.log"
    _start(server, lambda: log.exists() and "daemon started" in log.read_text(errors="replace"))
    return server, front, behind


RULES = """
rspamd_config:register_symbol({ name = 'LATER', type = 'prefilter', callback = function(task)
  if task:get_header('X-Later') then task:set_pre_result('soft reject', 'later') end
end })
rspamd_config:register_symbol({ name = 'SCORED', type = 'normal', score = 1.0, callback = function(task)
  local n = task:get_header('X-Score')
  if n then task:insert_result('SCORED', tonumber(n)) end
end })
"""
"""Rules whose verdict a test chooses: the others need a network."""
CONFIGURATION = """
options {{
  pidfile = "{folder}/rspamd.pid";
  tempdir = "{folder}";
  dbdir = "{folder}";
  cache_file = "{folder}/symbols.cache";
  hs_cache_dir = "{folder}";
  filters = "";
  gtube_patterns = "all";
  disable_hyperscan = true;
  url_tld = "{folder}/tld.dat";
  local_addrs = [];
  dns {{ nameserver = ["127.0.0.1:{dns}"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; mime = true; }}
lua = "{folder}/rules.lua";
"""


def rspamd() -> tuple[Binary, str]:
    """A running rspamd with the rules above, and its URL. Raises `CannotServe`."""
    _have("rspamd")
    folder, port, dns = folder_for("rspamd"), free_port(), free_port()
    (folder / "rspamd.conf").write_text(CONFIGURATION.format(folder=folder, port=port, dns=dns))
    (folder / "rules.lua").write_text(RULES)
    (folder / "tld.dat").write_text("com\ntest\n")
    command = ["rspamd", "--insecure", "-f", "-c", str(folder / "rspamd.conf")]
    server = Binary(folder, command, {}, [port, dns])
    _start(server, lambda: _pings(port))
    return server, f"http://127.0.0.1:{port}"


def _pings(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _have(package: str) -> None:
    if os.geteuid() != 0:
        raise CannotServe(f"{package} starts as root only")
    if shutil.which(package) is None:
        require((package,))


def _start(server: Binary, answers: Callable[[], bool]) -> None:
    server.start()

    def ready() -> bool:
        assert server.running(), f"it ended:\n{server.logs()}"
        return answers()

    try:
        wait_until(ready, "the server to answer", START)
    except AssertionError:
        server.close()
        raise


def mail_log(server: Binary) -> str:
    """What a Postfix has logged."""
    return Path(server.folder / "mail.log").read_text(errors="replace")
