"""The watcher of a landing zone, looked through by its own looks: a test moves files between two of them."""

import asyncio
import json

import pytest

from audioml.errors import SourceError
from audioml.params import parse_params


@pytest.fixture
def zone(tmp_path):
    (tmp_path / "zone" / "low").mkdir(parents=True)
    return tmp_path / "zone"


@pytest.fixture
def make(tmp_path, zone, monkeypatch):
    """A function that makes the trigger as a triggerer does, from its serialized form."""
    from airflow.sdk.module_loading import import_string

    from audioml.orchestration.airflow import landing

    monkeypatch.setattr(landing, "STORED_S", 0)

    def make_trigger(source=zone, **options):
        arguments = {"source": str(source), "storage_options": options, "watch_s": 0.001}
        made = landing.LandingTrigger(**arguments, announced=str(tmp_path / "landing.json"))
        classpath, kwargs = made.serialize()
        json.dumps(kwargs)
        return import_string(classpath)(**kwargs)

    return make_trigger


def watch(trigger, *changes):
    """Return for each look the payloads of the events before the next one; a change is made before each look."""
    events = [[] for _ in changes]
    look = trigger._look
    moment = -1

    def look_after_change():
        nonlocal moment
        moment += 1
        if moment == len(changes):
            raise StopWatching
        if changes[moment]:
            changes[moment]()
        return look()

    trigger._look = look_after_change

    async def collect():
        async for event in trigger.run():
            events[moment].append(event.payload)

    with pytest.raises(StopWatching):
        asyncio.run(collect())
    return events


class StopWatching(BaseException):
    pass


def test_a_zone_that_changed_is_announced_once_it_rests(make, zone):
    write = lambda name, data: lambda: (zone / "low" / name).write_bytes(data)  # noqa: E731
    events = watch(
        make(),
        None,  # empty
        None,
        write("a.wav", b"x"),  # being copied
        write("a.wav", b"xx"),
        None,  # rests
        None,
        write("b.wav", b"yyy"),
        None,
        (zone / "low" / "b.wav").unlink,
        None,
    )
    assert [len(found) for found in events] == [0, 0, 0, 0, 1, 0, 0, 1, 0, 1]
    counts = [(found[0]["files"], found[0]["bytes"]) for found in events if found]
    assert counts == [(1, 2), (2, 5), (1, 2)]
    assert events[4][0]["digest"] == events[9][0]["digest"] != events[7][0]["digest"]
    assert events[4][0]["source"] == str(zone)


def test_a_new_triggerer_announces_nothing_again_and_misses_nothing(make, zone):
    (zone / "low" / "a.wav").write_bytes(b"x")
    assert [len(found) for found in watch(make(), None, None)] == [0, 1]
    assert [len(found) for found in watch(make(), None, None)] == [0, 0]
    (zone / "low" / "b.wav").write_bytes(b"y")
    assert [len(found) for found in watch(make(), None, None)] == [0, 1]


def test_one_that_is_killed_as_it_fires_announces_again(make, zone, tmp_path):
    (zone / "low" / "a.wav").write_bytes(b"x")

    async def fire():
        return await anext(make().run())

    assert asyncio.run(fire()).payload["files"] == 1
    assert not (tmp_path / "landing.json").exists()
    assert [len(found) for found in watch(make(), None, None)] == [0, 1]


def test_another_source_is_news(make, zone, tmp_path):
    for name in ("zone", "other"):
        (tmp_path / name / "low").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "low" / "a.wav").write_bytes(b"x")
    watch(make(), None, None)
    assert [len(found) for found in watch(make(tmp_path / "other"), None, None)] == [0, 1]


def test_what_cannot_be_listed_is_logged_and_looked_at_again(make, zone, caplog):
    (zone / "low" / "a.wav").write_bytes(b"x")
    trigger = make()
    away = lambda: zone.rename(zone.parent / "away")  # noqa: E731
    back = lambda: (zone.parent / "away").rename(zone)  # noqa: E731
    with caplog.at_level("WARNING"):
        events = watch(trigger, away, None, back, None)
    assert [len(found) for found in events] == [0, 0, 0, 1]


def test_what_is_no_recording_is_no_news(make, zone):
    (zone / "low" / "a.wav").write_bytes(b"x")
    notes = lambda: (zone / "low" / "notes.txt").write_text("new")  # noqa: E731
    assert [len(found) for found in watch(make(), None, None, notes, None)] == [0, 1, 0, 0]


def test_a_table_is_watched_as_one_file(make, tmp_path):
    table = tmp_path / "birds.csv"
    table.write_text("path,label\n")
    more = lambda: table.write_text("path,label\na.wav,a\n")  # noqa: E731
    events = watch(make(table), None, None, more, None)
    assert [[found["files"] for found in look] for look in events] == [[], [1], [], [1]]


def test_a_url_is_watched(make, remote):
    from audioml.orchestration.airflow.landing import look_at

    remote.write("low/a.wav", b"x")
    more = lambda: remote.write("low/b.wav", b"yy")  # noqa: E731
    events = watch(make(remote.url, **remote.options), None, None, more, None)
    assert [[(e["files"], e["bytes"]) for e in look] for look in events] == [[], [(1, 1)], [], [(2, 3)]]
    with pytest.raises(SourceError, match="does not exist"):
        look_at(remote.url.rstrip("/") + "-gone/", remote.options)


def test_the_asset_of_a_workspace(minimal_params, tmp_path):
    from audioml.orchestration.airflow.landing import landing_asset

    data = {**minimal_params["data"], "source": "recordings"}
    asset = landing_asset(tmp_path, parse_params({**minimal_params, "data": data, "airflow": {"watch_s": 60}}))
    (watcher,) = asset.watchers
    assert (asset.name, watcher.name) == ("digits.landing", "digits.landing")
    assert watcher.trigger.serialize() == (
        "audioml.orchestration.airflow.landing.LandingTrigger",
        {
            "source": str(tmp_path / "recordings"),
            "storage_options": {},
            "announced": str(tmp_path / ".audioml" / "landing.json"),
            "watch_s": 60.0,
        },
    )
