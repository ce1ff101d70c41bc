"""Networks. A plug-in builds a torch module.

A plug-in module has, beside `Params`:

`build(params, input_shape)`
    The network without head: float32 `(n, bins, frames)` to `(n, width, frames')`, with `width` as an attribute.
    `input_shape` is (bins, frames); frames is None where windows have each their own length.
`FIXED_FRAMES`
    True in a model that cannot do without the frames; absent elsewhere. Training on whole clips then says so.
"""
