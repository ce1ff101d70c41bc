"""What Airflow's database needs before anything starts: `python -m audioml.orchestration.airflow.prepare`.

Does what `airflow db migrate`, `airflow pools set` and `airflow users create` do, in one process; run once at each
start of a cluster, before any other part. What is there already stays as it is.
"""

from __future__ import annotations

import os
import sys

from audioml.orchestration.airflow.pools import make_pools

USER_VARIABLE, PASSWORD_VARIABLE = "AIRFLOW_ADMIN_USER", "AIRFLOW_ADMIN_PASSWORD"
"""Environment variables: the login that is made where there is none of that name."""


def main() -> None:
    """Migrate, make pools, make the first login; say on standard output what was done."""
    from airflow.utils import db

    db.initdb()
    done = ["database migrated"]
    done += [f"pool {name} made" for name in make_pools()]
    if _make_admin(os.environ[USER_VARIABLE], os.environ[PASSWORD_VARIABLE]):
        done.append(f"login {os.environ[USER_VARIABLE]} made")
    sys.stdout.write("\n".join(done) + "\n")


def _make_admin(name: str, password: str) -> bool:
    """Make a login with all rights, unless there is one of this name; return whether it was made."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        users = builder.sm
        if users.find_user(name):
            return False
        users.add_user(name, "Admin", "User", f"{name}@localhost", users.find_role("Admin"), password)
        return True


if __name__ == "__main__":
    main()
