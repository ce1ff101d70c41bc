"""Checks that a version must pass to become champion. A plug-in is one check.

A plug-in module has `Params` and

`check(params, evidence) -> Verdict`
    Look at what `audioml.gates._evidence.Evidence` knows of the challenger and of the champion, and say whether the
    challenger passes. An error of audioml's that is raised on the way speaks against it.

Whether there is a champion or not, every gate is asked; one that compares lets the first champion pass.
"""
