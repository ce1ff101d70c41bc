import errno

import pytest
from typer.testing import CliRunner

from audioml import __version__, cli
from audioml.cli import app
from audioml.errors import IO_ERROR, SERVICE_ERROR, SOFTWARE_ERROR, USER_ERROR, ParamsError, ServiceError

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"audioml {command}" in result.output


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan",), "audioml init"),
        (("run", "featurise"), "Did you mean 'featurize'"),
        (("run", "train", "--plan", "--collect"), "give one of them"),
        (("predict", "nothing.wav"), "audioml init"),
    ],
)
def test_an_error_is_one_message_without_a_traceback(run_cli, tmp_path, arguments, message):
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ParamsError("no such key"), USER_ERROR, "Error no such key\n"),
        (ServiceError("no server"), SERVICE_ERROR, "Error no server\n"),
        (OSError(errno.EIO, "Input/output error", "/data/a.wav"), IO_ERROR, "Error /data/a.wav: Input/output error\n"),
        (ConnectionResetError("peer went away"), IO_ERROR, "Error peer went away\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), USER_ERROR, "Error x: Permission denied\n"),
    ],
)
def test_the_exit_status_says_whether_trying_again_may_help(monkeypatch, capsys, error, status, message):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    assert capsys.readouterr().err == message


def test_a_fault_of_the_program_shows_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == SOFTWARE_ERROR
    assert "Traceback" in capsys.readouterr().err
