import yaml


def test_a_workspace_that_searches_nothing_is_told_what_to_write(run_cli, tmp_path, minimal_params):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params))
    done = run_cli("tune", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error params.yaml: 'tune.space' is empty")
    assert "training.learning_rate: {low: 0.001, high: 0.03, log: true}" in done.stderr
    assert "Traceback" not in done.stderr


def test_parts_of_a_search_exclude_each_other(run_cli, tmp_path):
    done = run_cli("tune", "--plan", "--write", cwd=tmp_path)
    assert done.returncode == 1
    assert "--write comes last" in done.stderr
