"""Networks and other models, in a table in `docs/models.md`. A plug-in builds a torch module, or fits one at once.

A plug-in module has, beside `Params`, either

`build(params, input_shape)`
    The network without head: float32 `(n, bins, frames)` to `(n, width, frames')`, with `width` as an attribute.
    `input_shape` is (bins, frames); frames is None where windows have each their own length.
`pretraining_loss(features)`, a method of the network
    Only in a model that also learns without labels: a scalar loss of standardised features (n, bins, frames). Its
    `Params` have `pretrain_epochs`. Pretraining trains all parameters; those that serve
    it alone come without `requires_grad`, and so are neither counted nor trained afterwards.

`stream_block(params)`
    Only in a model that can answer a stream: how many frames it takes at a time, so that what it answers of these
    depends on no later frame; None where, with these params, it needs whole clips. `forward` of its network then takes
    a `Memory` (`models/_causal.py`) beside the features.

or, for a model without gradient descent that tells labels apart,

`fit(params, batches, n_labels, seed)`
    A dictionary of numpy arrays: all that the model holds. `batches` gives, as often as it is iterated over, training
    windows of equal length together and their labels: float32 `(n, bins, frames)`, int64 `(n,)` below `n_labels`;
    each label has one window at least. All randomness follows from the seed, which is below 2**31.
`build_fitted(params, state)`
    The decision as a torch module made from these arrays, now tensors: float32 `(n, bins, frames)`, as they are
    stored, to log-probabilities `(n, n_labels)`.

Either may have

`FIXED_FRAMES`
    True in a model that cannot do without the frames; absent elsewhere. Training on whole clips then says so.
"""
