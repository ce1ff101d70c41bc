import pytest

from audioml.cli.serving import _answer_row


def test_an_answer_of_any_task_is_one_row():
    asked = {"file": "a.wav", "model": {"name": "m", "version": 1}}
    assert _answer_row({**asked, "label": "dog", "probability": 0.5}) == ("a.wav", "dog", "0.500")
    assert _answer_row({**asked, "tags": ["dog", "rain"], "probabilities": {}}) == ("a.wav", "dog, rain", "")
    event = {"label": "dog", "onset_s": 1.0, "offset_s": 2.5, "confidence": 0.75}
    assert _answer_row({**asked, "events": [event], "alarms": []}) == ("a.wav", "dog 1.00-2.50 s", "")
    error = {"reason": "empty", "detail": "0 bytes"}
    assert _answer_row({**asked, "error": error}) == ("a.wav", "not readable as audio (empty: 0 bytes)", "")


@pytest.mark.parametrize(
    "arguments", [[], ["clip.wav", "--input", "clips"], ["--input", "clips"], ["--output", "out.parquet"]]
)
def test_predict_takes_files_or_a_folder_with_an_output(run_cli, tmp_path, arguments):
    done = run_cli("predict", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "--input" in done.stderr
    assert "--output" in done.stderr
