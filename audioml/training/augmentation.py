"""Augmentation of a training batch: its waveforms, then the features of them, then those features."""

from __future__ import annotations

import torch
from torch import Tensor

from audioml.params import Params
from audioml.plugins import changes_audio, features_are_audio, load_plugin
from audioml.training.loader import Batch


class Augmenter:
    """Applies the augmentations of params: those of waveforms first, then those of features, each kind in its order."""

    def __init__(self, params: Params) -> None:
        """Load the plug-ins.

        Raises
        ------
        ParamsError
            When a section is not valid, or changes waveforms that are not kept.
        """
        sections = params.augment_sections()
        self._of_audio, self._of_features = (
            [(load_plugin("augment", name), section) for name, section in sections if changes_audio(name) == wanted]
            for wanted in (True, False)
        )
        self._plugin, self._params = load_plugin("features", params.features.name), params.plugin_section("features")
        self.needs_audio = bool(self._of_audio) and not features_are_audio(params.features.name)
        """Whether batches are to come with the audio that their features were made of."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return features (n, bins, frames) and targets (n, ...), on the batch's device.

        Parameters
        ----------
        batch
            With `audio` where `needs_audio` says so.
        generator
            Of the CPU: all devices draw alike.
        """
        features, targets = batch.features, batch.targets
        # Spectra in half precision would be other features.
        with torch.autocast(features.device.type, enabled=False):
            if self._of_audio:
                audio = features[:, 0] if batch.audio is None else batch.audio
                # float64 and Fourier transforms are not on every device.
                audio = audio if audio.is_cuda else audio.cpu()
                for plugin, section in self._of_audio:
                    audio, targets = plugin.apply_audio(section, audio, targets, generator, self._params.sample_rate)
                features = self._extract(audio).to(features.device)
            for plugin, section in self._of_features:
                features, targets = plugin.apply(section, features, targets, generator)
        return features, targets

    def _extract(self, audio: Tensor) -> Tensor:
        """Return features as they are stored: on a CUDA GPU from torch, elsewhere from the kernel that made these."""
        if audio.is_cuda:
            features: Tensor = self._plugin.extract_torch(self._params, audio)
            return features
        return torch.from_numpy(self._plugin.extract(self._params, audio.numpy()))
