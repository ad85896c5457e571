"""The command `horo`: puts the commands together, and turns what they raise into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from cyclopts import App

from cli.output import CommandError, Exit, fail
from shared.bus import BusUnavailable, BusUnusable
from shared.directory import Conflict, DirectoryError, NotFound
from shared.replies import TransientError
from shared.settings import SettingsError
from shared.starting import ServiceEnded, StartError

HELP = """Horo, a mail-group engine: write to one address, every member gets it, and you can see that they did.

Settings are environment variables HORO_* or a TOML file named by HORO_CONFIG; `horo check --settings` lists them.

Exit codes: 0 done, 1 refused or failed, 2 wrong command, setting or input, 3 not found, 4 there already or in use,
75 a server does not answer, try again later.
"""

app = App(name="horo", help=HELP, version=lambda: version("horo"))
COMMANDS = {  # by name: a command is imported when it is called, so that each starts fast
    "up": ("cli.up:up", "Run all services in this process."),
    "serve": ("cli.up:serve_role", "Run one service, or several together, as a process of a cluster."),
    "domain": ("cli.domain:app", "Mail domains: create, list, show, set, delete."),
    "group": ("cli.group:app", "Groups: create, show, list, set, delete."),
    "member": ("cli.member:app", "Members of a group: add, remove, list, pause, import, export."),
    "import": ("cli.migrate.command:app", "Groups from alias files or from Mailman 3: shown first, made with --apply."),
    "send": ("cli.send:send", "Send a message to a group, then tell who got it."),
    "trace": ("cli.trace:trace", "Tell what happened to a message, address by address."),
    "post": ("cli.post:app", "Posts that are under way: stop."),
    "parked": ("cli.parked:app", "Messages that could not be processed: list, show, retry, drop."),
    "signal": ("cli.signal:signal", "Send a signal to a group, for a chat system to deliver."),
    "token": ("cli.token:app", "Tokens with which other systems use the API: create, list, revoke."),
    "channel": ("cli.channel:app", "Channels of a group's signals: add, list, remove, test."),
    "check": ("cli.check:check", "Check the settings and all that they name."),
    "backup": ("cli.backup:backup", "Back up everything into one file, while Horo runs on files of this machine."),
    "restore": ("cli.backup:restore", "Put back what a backup holds."),
    "doctor": ("cli.doctor:doctor", "Look the installation over, and say what to mend."),
    "migrate": ("cli.schema:migrate", "Bring the database to this version of Horo."),
}
for name, (place, purpose) in COMMANDS.items():
    app.command(place, name=name, help=purpose)


def main() -> int:
    """Run the command line; the exit status."""
    try:
        app(sys.argv[1:], result_action="return_none")
    except KeyboardInterrupt:
        return 130
    except SystemExit as ended:  # cyclopts has printed what is wrong with the words
        return int(ended.code or 0) if not isinstance(ended.code, str) else Exit.USAGE
    except BrokenPipeError:  # whoever read our output has had enough, as in `horo member list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        return Exit.FAILED
    except Exception as error:
        known = _explain(error)
        if known is None:
            raise
        fail(known[0])
        return known[1]
    return Exit.OK


def _explain(error: BaseException) -> tuple[str, Exit] | None:
    """What to tell a person, and the exit code; None for what nobody foresaw (its traceback is worth having)."""
    if isinstance(error, BaseExceptionGroup):
        return next((told for inner in error.exceptions if (told := _explain(inner))), None)
    match error:
        case CommandError():
            return str(error), error.code
        case StartError() if isinstance(error.__cause__, TransientError) and not isinstance(
            error.__cause__, BusUnusable
        ):
            return str(error), Exit.UNAVAILABLE
        case SettingsError() | StartError():
            return str(error), Exit.USAGE
        case ServiceEnded():
            return str(error), Exit.FAILED
        case NotFound():
            return str(error), Exit.NOT_FOUND
        case Conflict():
            return str(error), Exit.CONFLICT
        case DirectoryError():
            return str(error), Exit.USAGE
        case BusUnusable():
            return f"the bus (HORO_BROKER_URL): {error.why}", Exit.USAGE
        case BusUnavailable():
            return f"the bus does not answer (HORO_BROKER_URL): {error.why}", Exit.UNAVAILABLE
        case TransientError():
            return f"a server does not answer; try again later: {error.why or error}", Exit.UNAVAILABLE
    return None


if __name__ == "__main__":
    sys.exit(main())
