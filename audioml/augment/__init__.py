"""Changes to training data. A plug-in changes waveforms or features of a batch.

A plug-in module has `Params` and one of

`apply_audio(params, audio, targets, generator, sample_rate)`
    Waveforms float32 `(n, samples)` and soft targets `(n, ...)` to the same of as many samples. Needs
    `features.keep_audio`.
`apply(params, features, targets, generator)`
    Features float32 `(n, bins, frames)` and soft targets `(n, ...)` to the same.

One whose targets lie between those of two clips says so by `MIXES = True`; tasks with `MIXABLE = False` refuse it.

Random numbers come from the generator, which is the CPU's, so that all devices draw alike.
"""
