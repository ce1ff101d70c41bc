import pytest

from audioml.params import parse_params
from audioml.pipeline.context import Context


@pytest.fixture
def recordings_space(tmp_path, minimal_params, tone_wav):
    """A workspace whose source has two classes of six tones of 0.5 s; a packed shard holds 2 s."""
    for i in range(6):
        for label, base in (("low", 200), ("high", 2000)):
            path = tmp_path / "recordings" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(base + 10 * i))
    (tmp_path / "space").mkdir()
    data = {"layout": "folder", "source": str(tmp_path / "recordings")}
    return Context(tmp_path / "space", parse_params(minimal_params | {"data": data, "ingest": {"shard_s": 2.0}}))
