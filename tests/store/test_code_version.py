import pytest

from audioml.store.code_version import PACKAGE, code_version

PLUGIN = '''"""A plug-in."""
from pack.audio.decode import decode
from pack.features import _helper
from pack.params import Section


class Params(Section):
    """Keys."""

    bands: int = 40
    """Number of bands."""


def extract(audio, *, floor=1e-10):
    """Say what it does."""
    return decode(audio) + floor
'''


@pytest.fixture
def package(tmp_path):
    files = {
        "features/plugin.py": PLUGIN,
        "features/_helper.py": "AMIN = 1e-10\n",
        "features/other.py": "OTHER = 1\n",
        "audio/decode.py": "from pack.audio.deep import x\n",
        "audio/deep.py": "x = 1\n",
        "params.py": "DEFAULT = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pack"


def version(package):
    return code_version(["features/plugin.py"], within=["features", "audio"], package=package)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("features/plugin.py", "A plug-in", "The plug-in"),
        ("features/plugin.py", "Say what it does", "Say it better"),
        ("features/plugin.py", '    """Say what it does."""\n', ""),
        ("features/plugin.py", "Number of bands", "How many bands"),
        ("features/plugin.py", "    return", "    # Why.\n\n    return"),
        ("features/plugin.py", "decode(audio) + floor", "(decode(audio)\n        + floor)"),
        ("features/other.py", "1", "2"),
        ("params.py", "1", "2"),
    ],
)
def test_what_cannot_change_the_result_keeps_the_version(package, file, old, new):
    before = version(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert version(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("features/plugin.py", "1e-10", "1e-9"),
        ("features/plugin.py", "bands: int = 40", "bands: int = 41"),
        ("features/plugin.py", "+ floor", "- floor"),
        ("features/plugin.py", "40", "40.0"),
        ("features/_helper.py", "1e-10", "1e-9"),
        ("audio/deep.py", "x = 1", "x = 2"),
    ],
)
def test_what_can_change_the_result_changes_the_version(package, file, old, new):
    before = version(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert version(package) != before


def test_circular_imports_end(package):
    (package / "audio/deep.py").write_text("from pack.audio.decode import decode\n")
    assert version(package) == version(package)


def test_the_package_itself_has_a_version():
    assert PACKAGE.name == "audioml"
    assert len(code_version(["features/mfcc.py"], within=["features", "audio", "units.py"])) == 64
