"""Lightning: data module, module, fit."""
