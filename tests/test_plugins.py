import pytest

from audioml.errors import UnknownPluginError
from audioml.params import Section
from audioml.plugins import KINDS, check_plugin, gives_embeddings, load_plugin, plugin_names


def test_names_are_file_names_without_helpers():
    assert {"folder", "filename", "table", "spoken_commands"} <= set(plugin_names("datasets"))
    assert not [name for kind in KINDS for name in plugin_names(kind) if name.startswith("_")]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in plugin_names(kind)])
def test_each_plugin_owns_its_section(kind, name):
    assert issubclass(load_plugin(kind, name).Params, Section)


def test_an_unknown_name_gets_the_list_and_the_nearest():
    with pytest.raises(UnknownPluginError, match=r"'logmell'.*Did you mean 'logmel'.*mfcc"):
        check_plugin("features", "logmell")


def test_an_unknown_kind_is_named():
    with pytest.raises(UnknownPluginError, match="'feature'"):
        plugin_names("feature")


def test_tasks_say_whether_their_answers_are_embeddings():
    assert gives_embeddings("speaker")
    assert not gives_embeddings("classification")
