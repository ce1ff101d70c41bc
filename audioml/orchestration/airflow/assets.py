"""The assets of a workspace: what its DAGs hand on to each other, and to the DAGs of others.

An event of an asset carries counts, hashes and links as its `extra`; `audioml describe ASSET --json` makes them.
"""

from __future__ import annotations

from airflow.sdk import Asset

from audioml.params import Params

DATASET, FEATURES, MODEL, CHAMPION, DRIFT = "dataset", "features", "model", "champion", "drift"


def workspace_asset(params: Params, kind: str) -> Asset:
    """Return an asset of a workspace.

    Parameters
    ----------
    params : Params
        Of the workspace.
    kind : str
        ``dataset`` (ingested and checked), ``features`` (split and extracted), ``model`` (a registered challenger),
        ``champion`` (a promoted version) or ``drift`` (an alarm of monitoring).
    """
    return Asset(name=f"{params.name}.{kind}", uri=f"audioml://{params.name}/{kind}", group="audioml")
