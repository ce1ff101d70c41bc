"""Decoding, resampling, statistics and synthesis of audio."""
