import yaml

from audioml.orchestration.params_file import render_params
from audioml.params import parse_params
from audioml.plugins import plugin_names


def test_the_cleaning_chain_is_rendered_with_its_keys_and_what_they_mean(minimal_params):
    names = plugin_names("clean")
    text = render_params({**minimal_params, "clean": [{"name": name} for name in names]})
    section = text[text.index("# What happens to each clip before its features") : text.index("\nfeatures:")]
    assert f"# There are: {', '.join(names)}.\nclean:\n  - name: {names[0]}\n" in section
    assert "    # Integrated loudness after the gain" in section
    assert "    target_lufs: -23.0\n" in section
    given = parse_params({**minimal_params, "clean": [{"name": name} for name in names]})
    assert parse_params(yaml.safe_load(text)).clean_sections() == given.clean_sections()


def test_lists_of_plugins_can_be_empty(minimal_params):
    text = render_params({**minimal_params, "clean": [], "augment": []})
    assert "\nclean: []\n" in text
    assert "\naugment: []\n" in text


def test_what_is_rendered_renders_to_itself(minimal_params):
    text = render_params(minimal_params)
    assert "clean:\n  - name: remove_dc\n" in text
    assert render_params(yaml.safe_load(text)) == text
