import json


def test_the_parts_of_a_run_answer_in_json(run_cli, tmp_path, tones):
    created = run_cli("init", "birds", "--data", str(tones), "--json", cwd=tmp_path)
    assert json.loads(created.stdout)["layout"] == "folder", created.stderr
    workspace = tmp_path / "birds"
    items = json.loads(run_cli("run", "ingest", "--plan", "--json", cwd=workspace).stdout)
    assert [set(item) for item in items] == [{"id", "label", "clips"}] * len(items)
    for item in items:
        assert run_cli("run", "ingest", "--item", item["id"], "--json", cwd=workspace).returncode == 0
    summary = json.loads(run_cli("run", "ingest", "--collect", "--json", cwd=workspace).stdout)
    assert summary["clips"] == 72
    decisions = json.loads(run_cli("plan", "validate", "--json", cwd=workspace).stdout)
    assert decisions == {"validate": {"run": True, "reasons": ["no run of it is recorded"]}}


def test_a_wrong_key_of_the_model_is_found_before_any_work(run_cli, tmp_path, tones):
    run_cli("init", "birds", "--data", str(tones), cwd=tmp_path)
    params = tmp_path / "birds" / "params.yaml"
    params.write_text(params.read_text().replace("  width: 48", "  widht: 48"))
    done = run_cli("run", "ingest", cwd=tmp_path / "birds")
    assert done.returncode == 1
    assert "unknown key 'model.widht'. Did you mean 'width'?" in done.stderr
    assert not (tmp_path / "birds" / "data").exists()
