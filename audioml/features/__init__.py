"""What the model sees. A plug-in turns windows of mono float32 audio into frames.

A plug-in module has, beside `Params` (a subclass of `audioml.params.FeatureParams`):

`shape_of(params, n_samples)`
    (bins, frames) of a window of that many samples.
`extract_into(params, windows, out)`
    The kernel: windows of any lengths, float32 `(samples,)` each, to arrays of those shapes. A window's numbers are
    the same bytes whatever stands beside it.
`extract(params, audio)`
    The same of windows of one length: float32 `(n, samples)` to `(n, bins, frames)`.
`extract_torch(params, audio)`
    `extract` on a torch tensor, on the tensor's device. It imports torch when called. It is equal within 1e-3 of a
    value; in dB within 1e-3 down to 65 dB below a frame's loudest band, where the CPU's float32 begins to show.
`feature_shape(params)`
    (bins, frames) of one window of `duration_s`.

A plug-in whose frames can be made while a clip is still heard has also:

`frame_reach(params)`
    How many frames before and after it a frame's numbers depend on at most.
`clip_wide(params)`
    The keys, set as they are, by which a frame depends on all of its window; with any, features are made of whole
    clips only.

`IS_AUDIO = True` says that the features, `(n, 1, samples)`, are the samples themselves; without it they are not.
"""
