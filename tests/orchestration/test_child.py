import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from audioml.orchestration.child import ChildError, describe_failure, run_child

SLEEP_S = 600


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_arrives_line_by_line_and_without_colours(tmp_path):
    lines = []
    code = "import sys; print('one'); print('\\x1b[31mtwo\\x1b[0m', file=sys.stderr); print('50%\\r60%\\r70%')"
    assert run_child(python(code), tmp_path, lines.append) == ""
    assert sorted(lines) == sorted(["one", "two", "50%", "60%", "70%"])


def test_captured_output_is_not_logged(tmp_path):
    lines = []
    code = "import sys; print('{}'); print('deciding', file=sys.stderr)"
    assert run_child(python(code), tmp_path, lines.append, capture=True) == "{}\n"
    assert lines == ["deciding"]


def test_runs_in_the_folder_with_this_python_first_in_path(tmp_path):
    out = run_child(
        python("import os; print(os.getcwd()); print(os.environ['PATH'].split(os.pathsep)[0]); print(os.environ['A'])"),
        tmp_path,
        print,
        environment={"A": "b"},
        capture=True,
    )
    assert out.splitlines() == [str(tmp_path), str(Path(sys.executable).parent), "b"]


def test_failure_has_the_message_and_the_status(tmp_path):
    code = "import sys; print('noise'); print('Error no such column:\\n  speaker', file=sys.stderr); sys.exit(1)"
    with pytest.raises(ChildError, match=r"^no such column:\n  speaker$") as caught:
        run_child(python(code), tmp_path, lambda line: None)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("tail", "status", "message"),
    [
        (["Traceback", "ValueError: x"], 1, "ValueError: x"),
        (["Error a", "Error b", "more"], 1, "b\nmore"),
        ([], 3, "exit status 3"),
        (["anything"], -signal.SIGKILL, "killed by SIGKILL (out of memory?)"),
        (["anything"], -signal.SIGTERM, "killed by SIGTERM"),
    ],
)
def test_describe_failure(tail, status, message):
    assert describe_failure(tail, status) == message


def test_child_stays_in_the_process_group_of_its_parent(tmp_path):
    code = "import os; print(os.getpgid(0))"
    parent = f"""
import os
from pathlib import Path
from audioml.orchestration.child import run_child
os.setpgid(0, 0)
assert int(run_child([{sys.executable!r}, "-c", {code!r}], Path("."), print, capture=True)) == os.getpgid(0)
"""
    assert subprocess.run(python(parent), cwd=tmp_path).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_child_dies_with_its_parent(tmp_path):
    child = f"import os, time; print(os.getpid(), flush=True); time.sleep({SLEEP_S})"
    parent = f"""
from pathlib import Path
from audioml.orchestration.child import run_child
run_child([{sys.executable!r}, "-c", {child!r}], Path("."), lambda line: print(line, flush=True))
"""
    with subprocess.Popen(python(parent), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild = psutil.Process(int(process.stdout.readline()))
        process.kill()
    gone, alive = psutil.wait_procs([grandchild], timeout=30)
    # Without a process that reaps orphans a zombie stays.
    assert gone or alive[0].status() == psutil.STATUS_ZOMBIE
