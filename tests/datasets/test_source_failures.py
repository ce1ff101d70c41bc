"""What a wrong address, a refusal, an outage and a bad object each become."""

import socket
import sys

import fsspec
import pytest

from audioml.datasets._source import Source, failures, file_systems, http
from audioml.errors import ParamsError, ServiceError, SourceError
from audioml.params import DataParams, parse_section

NO_RETRIES = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}


@pytest.fixture
def fresh(monkeypatch):
    """No file system is open yet, so that one is made as the test wants it."""
    monkeypatch.setattr(file_systems, "_opened", {})
    fsspec.get_filesystem_class("http").clear_instance_cache()
    yield
    fsspec.get_filesystem_class("http").clear_instance_cache()


@pytest.fixture
def once(monkeypatch, fresh):
    """Ask a web server once."""
    monkeypatch.setattr(http, "ATTEMPTS", 1)


@pytest.fixture
def closed_port():
    """A port on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def at(remote, path=""):
    return Source.of(remote.url.rstrip("/") + path, storage_options=remote.options)


def test_an_address_that_is_not_there(remote):
    remote.write("a/1.wav", b"x")
    with pytest.raises(SourceError, match=r"/nowhere does not exist \(.*data\.source"):
        at(remote, "/nowhere").is_folder()


def test_a_bucket_that_is_not_there(s3):
    source = Source.of("s3://no-such-bucket/birds", storage_options=s3.options)
    with pytest.raises(SourceError, match=r"s3://no-such-bucket/birds does not exist"):
        source.is_folder()
    with pytest.raises(SourceError, match=r"s3://no-such-bucket/birds does not exist"):
        source.list_files()


def test_nothing_answers(once, closed_port, s3_server):
    address = f"127.0.0.1:{closed_port}"
    for source in (
        Source.of(f"http://{address}/birds/"),
        Source.of("s3://birds", storage_options={"endpoint_url": f"http://{address}", **NO_RETRIES}),
    ):
        with pytest.raises(ServiceError, match=rf"{source.address} does not answer .*{closed_port}"):
            source.is_folder()
        with pytest.raises(ServiceError, match="does not answer"):
            source.read("a.wav")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [(403, SourceError, r"may not be read \(403.*netrc"), (503, ServiceError, r"does not answer \(503")],
)
def test_a_listing_that_is_refused(once, web, status, error, says):
    web.failing["/birds/"] = [status] * 9
    with pytest.raises(error, match=says):
        Source.of(web.url).is_folder()
    with pytest.raises(error, match=says):
        Source.of(web.url).list_files()


def test_an_object_that_goes_is_its_own_problem(remote):
    remote.write("a/1.wav", b"x")
    remote.write("a/2.wav", b"x")
    source = at(remote)
    source.list_files()
    remote.remove("a/1.wav")
    with pytest.raises(FileNotFoundError):
        source.read("a/1.wav")
    with pytest.raises(FileNotFoundError), source.fetch("a/1.wav"):
        pass


def test_an_object_that_fails_is_its_own_problem_while_its_folder_answers(once, web):
    web.write("a/1.wav", b"x")
    source = Source.of(web.url)
    web.failing["1.wav"] = [403] * 9
    with pytest.raises(PermissionError, match="403"):
        source.read("a/1.wav")
    assert source.list_files()[0].problem[0] == "unreadable"
    web.failing["1.wav"] = [500] * 9
    with pytest.raises(OSError, match="500"):
        source.read("a/1.wav")
    web.failing["a"] = [500] * 9
    with pytest.raises(ServiceError, match="does not answer"):
        source.read("a/1.wav")


def test_a_web_server_is_asked_again(web, monkeypatch, fresh):
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.002)
    web.write("1.wav", b"x")
    web.failing["1.wav"] = [503, 429, 500]
    assert Source.of(web.url).read("1.wav") == b"x"
    assert not web.failing["1.wav"]


def test_credentials_that_expired_stop_the_run(s3):
    from botocore.exceptions import ClientError, NoCredentialsError

    expired = ClientError({"Error": {"Code": "ExpiredToken", "Message": "it is old"}}, "GetObject")
    for error, says in ((expired, "ExpiredToken: it is old"), (NoCredentialsError(), "Unable to locate credentials")):
        with (
            pytest.raises(SourceError, match=rf"may not be read \({says}.*AWS_PROFILE"),
            failures.explain_object_failures("s3://birds", "birds/a.wav", lambda place: True),
        ):
            raise PermissionError(says) from error


def test_a_full_disk_is_no_fault_of_the_recording():
    with (
        pytest.raises(ServiceError, match="TMPDIR"),
        failures.explain_object_failures("s3://birds", "birds/a.wav", lambda place: True),
    ):
        raise OSError(28, "No space left on device")


def test_without_s3fs(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(SourceError, match=r's3://birds needs .*pip install "audioml\[s3\]"'):
        Source.of("s3://birds")


def test_an_address_that_nothing_reads():
    with pytest.raises(SourceError, match=r"Nothing reads gopher://"):
        Source.of("gopher://host/birds")


def test_options_that_do_not_suit(web):
    with pytest.raises(ParamsError, match=r"storage_options do not suit .*endpoint_url"):
        Source.of(web.url, storage_options={"endpoint_url": "x"}).list_files()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"source": "https://me:secret@host/birds/"}, "credentials"),
        ({"source": "s3:///birds"}, "no bucket or host"),
        ({"source": "file:///birds"}, "without file://"),
        ({"source": "s3://birds", "storage_options": {"client_kwargs": {"aws_secret_access_key": "x"}}}, "environment"),
    ],
)
def test_params_that_are_refused(keys, says):
    with pytest.raises(ParamsError, match=says) as refused:
        parse_section(DataParams, {"layout": "folder", **keys}, "data")
    assert "data." in str(refused.value)
