"""Where long recordings are cut into clips, in a stream.

A plug-in has `Params` and two functions: ``make(params, sample_rate) -> audioml.audio.stream.Segmenter``, one for each
recording, and ``keeps_whole(params, info) -> bool``: whether the recording is one segment as it is, so that its file
needs no cutting.
"""
