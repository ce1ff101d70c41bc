"""Impulse responses of rooms by the image-source model.

Source: Allen and Berkley, "Image method for efficiently simulating small-room acoustics", JASA 65(4), 1979; what
arrives between two samples is shared by both. All walls of a room reflect alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPEED_OF_SOUND = 343.0
"""In m/s, at 20 °C."""
DECAY_DB = 60.0
"""A response ends where it has decayed by this."""
LOWEST_HZ = 40.0
"""Below, images add up to a pressure that rooms do not have; Allen and Berkley filter it away as well."""


@dataclass(frozen=True)
class Room:
    """A box, and where in it are the source and the microphone."""

    size_m: tuple[float, float, float]
    source_m: tuple[float, float, float]
    microphone_m: tuple[float, float, float]
    rt60_s: float
    """Time in which a sound decays by 60 dB."""

    @property
    def reflection(self) -> float:
        """Which share of the pressure a wall reflects: Eyring's (1930), which is Sabine's where walls absorb little."""
        x, y, z = self.size_m
        surface_m2 = 2 * (x * y + y * z + z * x)
        absorbed = 24 * math.log(10) / SPEED_OF_SOUND * (x * y * z) / (surface_m2 * self.rt60_s)
        return math.exp(-absorbed / 2)

    @property
    def distance_m(self) -> float:
        """From source to microphone."""
        return math.dist(self.source_m, self.microphone_m)


def room_response(room: Room, sample_rate: int) -> NDArray[np.float32]:
    """Return a room's impulse response, float32 (samples,), whose direct sound is 1 / distance.

    It begins as the source sounds, and ends where the room has decayed.
    """
    n_samples = max(1, math.ceil((room.rt60_s * DECAY_DB / 60 + room.distance_m / SPEED_OF_SOUND) * sample_rate))
    reach_m = n_samples / sample_rate * SPEED_OF_SOUND
    squares, reflections = zip(*(_axis_images(room, axis, reach_m) for axis in range(3)), strict=True)
    response = np.zeros(n_samples + 2)
    # One pair of coordinates in x and y at a time would be slow in Python, all three at once large in memory.
    for square, bounces in zip(squares[0], reflections[0], strict=True):
        distance_m = np.sqrt(square + squares[1][:, None] + squares[2][None, :]).ravel()
        count = (bounces + reflections[1][:, None] + reflections[2][None, :]).ravel()
        near = distance_m < reach_m
        delay = distance_m[near] * (sample_rate / SPEED_OF_SOUND)
        pressure = room.reflection ** count[near] / distance_m[near]
        first = delay.astype(np.int64)
        weight = delay - first
        response += np.bincount(first, pressure * (1 - weight), len(response))
        response += np.bincount(first + 1, pressure * weight, len(response))
    return _cut_lows(response[:n_samples], sample_rate)


def _axis_images(room: Room, axis: int, reach_m: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return, for the images along one axis, the square of the distance in m², and how often each was reflected."""
    size, source, microphone = room.size_m[axis], room.source_m[axis], room.microphone_m[axis]
    order = np.arange(-math.ceil(reach_m / (2 * size)) - 1, math.ceil(reach_m / (2 * size)) + 2)
    same, mirrored = 2 * order * size + source - microphone, 2 * order * size - source - microphone
    bounces = np.concatenate([2 * np.abs(order), np.abs(order) + np.abs(order - 1)])
    distance = np.concatenate([same, mirrored])
    near = np.abs(distance) < reach_m
    return distance[near] ** 2, bounces[near]


def _cut_lows(response: NDArray[np.float64], sample_rate: int) -> NDArray[np.float32]:
    """Return the response without what is below `LOWEST_HZ`, nearly; by a Butterworth filter of the second order."""
    import scipy.signal

    filtered = scipy.signal.sosfilt(
        scipy.signal.butter(2, LOWEST_HZ, "highpass", fs=sample_rate, output="sos"), response
    )
    return np.asarray(filtered, np.float32)


def draw_room(
    generator: np.random.Generator, size_m: tuple[float, float], rt60_s: tuple[float, float], margin_m: float = 0.5
) -> Room:
    """Return a room of drawn size, decay and positions, none of them nearer to a wall than the margin.

    Parameters
    ----------
    size_m
        Shortest and longest wall; the height is 2.4 to 4 m, or as much of that as a wall is long.
    rt60_s
        Shortest and longest decay.
    """
    x, y = (float(value) for value in generator.uniform(*size_m, 2))
    size = (x, y, float(min(generator.uniform(2.4, 4.0), max(x, y))))
    places = [tuple(float(generator.uniform(margin_m, side - margin_m)) for side in size) for _ in range(2)]
    source, microphone = places
    return Room(size, source, microphone, float(generator.uniform(*rt60_s)))  # type: ignore[arg-type]
