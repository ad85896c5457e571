"""`horo migrate`: bring the database to this version before the new release starts, as installations with HORO_MIGRATE=command do."""

from __future__ import annotations

from cli import access
from cli.output import Json, print_json, say


async def migrate(*, json: Json = False) -> None:
    """Bring the database to this version of Horo. Doing it again, or in several places at once, does no harm.

    The release before goes on working with the newer database, so that services can be replaced one by one afterwards.
    """
    before, now = await access.migrate()
    if json:
        print_json({"before": before, "now": now})
    elif before == now:
        say(f"The database is of version {now} already.")
    else:
        say(f"The database is of version {now} now; it was {f'of version {before}' if before else 'empty'}.")
