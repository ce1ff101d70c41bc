"""The versions that a server answers with, as the registry's aliases say from one moment to the next.

A version that an alias comes to is loaded, warmed and checked beside the one that serves; then it takes its place
between two requests. One that cannot be loaded, or answers otherwise than when it was trained, is refused and reported,
and the one before serves on.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from audioml.errors import RegistryError, ServiceError
from audioml.params import ServingParams
from audioml.registry.tracking import RegistryWatch, tracking
from audioml.registry.training_sets import find_mark
from audioml.registry.versions import parse_reference, resolve
from audioml.registry.workspace import ModelUser
from audioml.serving.model import LoadedModel, load_model

log = logging.getLogger(__name__)

PRIMARY, CANARY, SHADOW = "primary", "canary", "shadow"
"""Roles of a version: answers, answers a share in place of the primary one, or hears what they hear."""


@dataclass(frozen=True)
class Refusal:
    """Why a version that an alias came to does not serve."""

    version: int
    reason: str


class LiveModels:
    """What serves now, by role. Safe to ask from any thread while `follow` changes it.

    Parameters
    ----------
    ctx
        The workspace, or what stands in for it.
    primary
        What serves from the start.
    reference
        That the primary version was found by, such as ``digits@champion``; None is the champion of the workspace's
        model.
    params
        Aliases of the canary and the shadow, the canary's share, and how often the registry is looked at.
    load
        Returns the version that a reference names, ready to predict and checked.
    """

    def __init__(
        self,
        ctx: ModelUser,
        primary: LoadedModel,
        reference: str | None = None,
        params: ServingParams | None = None,
        load: Callable[[ModelUser, str], LoadedModel] = load_model,
    ) -> None:
        self._ctx, self._params, self._load = ctx, params or ServingParams(), load
        name, which = parse_reference(reference or "", ctx.model_name)
        aliases = {PRIMARY: which, CANARY: self._params.canary, SHADOW: self._params.shadow}
        self._references = {role: f"{name}@{alias}" for role, alias in aliases.items() if alias}
        self._models: dict[str, LoadedModel] = {PRIMARY: primary}
        self.refused: dict[str, Refusal] = {}
        """By role."""
        self.swaps = 0
        """Times that another version took a place."""
        self._watch = RegistryWatch(ctx)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def models(self) -> dict[str, LoadedModel]:
        """What serves, by role; a canary or shadow that is the primary version is left out."""
        return self._models

    @property
    def primary(self) -> LoadedModel:
        """What answers where there is no canary."""
        return self._models[PRIMARY]

    def choose(self) -> tuple[str, LoadedModel]:
        """Return the role and the model that answer the next request; the canary with its share's probability."""
        models = self._models
        if CANARY in models and random.random() < self._params.canary_share:
            return CANARY, models[CANARY]
        return PRIMARY, models[PRIMARY]

    def start(self) -> None:
        """Look at the registry from time to time, in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._follow, name="follow-registry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def look(self) -> None:
        """Ask the registry once which versions the aliases name, and take those that are new.

        Raises
        ------
        ServiceError
            When the tracking server can't be reached.
        RegistryError
            When the primary version's alias is gone.
        """
        if not self._watch.may_have_changed():
            return
        with tracking(self._ctx):
            found = {role: self._find(role) for role in self._references}
            self._watch.remember()
            for role, version in found.items():
                self._take(role, version)
            for role in self._models:
                self._renew_card(role)

    def _follow(self) -> None:
        problem = ""
        while not self._stop.wait(self._params.poll_s):
            try:
                self.look()
                problem = ""
            except Exception as error:  # noqa: BLE001 - what serves goes on whatever becomes of the registry
                if str(error) != problem:
                    problem = str(error)
                    log.warning(
                        "%s serves on, as the registry does not say what should: %s", _name(self.primary), problem
                    )

    def _find(self, role: str) -> int | None:
        """Return the version that a role's alias names; None where a canary or shadow has none."""
        try:
            return resolve(self._ctx, self._references[role]).version
        except RegistryError:
            if role == PRIMARY:
                raise
            return None

    def _take(self, role: str, version: int | None) -> None:
        if version is None or (role != PRIMARY and version == self.primary.version):
            self._put(role, None)
            return
        now, refused = self._models.get(role), self.refused.get(role)
        if now and now.version == version:
            self.refused.pop(role, None)
            return
        if refused and refused.version == version:
            return
        reference = f"{self.primary.name}@{version}"
        known = next((model for model in self._models.values() if model.version == version), None)
        try:
            model = known or self._load(self._ctx, reference)
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 - a version may fail in any way, and must not serve then
            self.refused[role] = Refusal(version, str(error))
            log.error("%s is refused as %s: %s", reference, role, error)
            return
        self.refused.pop(role, None)
        self._put(role, model)

    def _renew_card(self, role: str) -> None:
        """Say on a model's card what was withdrawn of its recordings since it was loaded."""
        model = self._models[role]
        if model.card is None:
            return
        mark = find_mark(model.name, model.version)
        if mark != model.card.get("withdrawn"):
            # It stays where it is, and is no other version.
            renewed = replace(model, card={**model.card, "withdrawn": mark})
            self._models = {name: renewed if each is model else each for name, each in self._models.items()}

    def _put(self, role: str, model: LoadedModel | None) -> None:
        models = {name: each for name, each in {**self._models, role: model}.items() if each}
        # Where an alias other than the primary's names the primary version, there is nothing to try out.
        kept = {name: each for name, each in models.items() if name == PRIMARY or each is not models[PRIMARY]}
        if kept == self._models:
            return
        # One assignment: a request sees either what was before, or what is now.
        self._models = kept
        self.swaps += 1
        log.info("now serving: %s", ", ".join(f"{name} {_name(each)}" for name, each in kept.items()))


def _name(model: LoadedModel) -> str:
    return f"{model.name} version {model.version}"
