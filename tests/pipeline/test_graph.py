import re
import subprocess
import sys
from pathlib import Path

import pytest

import audioml
from audioml.errors import StepError
from audioml.pipeline.graph import INFERENCE_CODE, STEPS, downstream, find_step
from audioml.plugins import plugin_names
from audioml.registry.package import CODE

# What every process loads to find params, errors and steps; a change there changes no result of a step.
INFRASTRUCTURE = (
    "errors.py",
    "plugins.py",
    "ports.py",
    "processes.py",
    "params.py",
    "partitions.py",
    "pipeline/step.py",
    "pipeline/graph.py",
    "pipeline/context.py",
)


def test_steps_read_only_what_an_earlier_step_writes():
    made: set[str] = set()
    for step in STEPS:
        assert {i for i in step.inputs if not i.startswith("${")} <= made
        made |= {output.path for output in step.outputs}


def test_no_output_lies_in_another():
    paths = [output.path for step in STEPS for output in step.outputs]
    assert not [(a, b) for a in paths for b in paths if a != b and b.startswith(a + "/")]


def test_downstream_follows_inputs():
    assert downstream("split") == ["train", "evaluate", "register"]
    assert downstream("register") == []


def test_an_unknown_step_gets_the_list_and_the_nearest():
    with pytest.raises(StepError, match=r"'featurise'.*Did you mean 'featurize'.*ingest"):
        find_step("featurise")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_lists_the_code_it_loads(step):
    """Load the step as a run would, in a fresh process, and compare what came with what dvc.yaml will watch."""
    code = f"""
import sys, pathlib
import audioml
from audioml.params import parse_params
from audioml.pipeline.graph import find_step
find_step({step.name!r}).load()
root = pathlib.Path(audioml.__file__).parent
files = {{pathlib.Path(m.__file__).relative_to(root).as_posix() for n, m in sys.modules.items()
         if n.startswith('audioml') and getattr(m, '__file__', None)}}
print("\\n".join(sorted(files)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed = [path.replace("${model.name}", "bcresnet").replace("${task.name}", "classification") for path in step.code]
    unlisted = [
        file
        for file in done.stdout.split()
        if file not in INFRASTRUCTURE
        and not file.endswith("__init__.py")
        and not any(file == path or file.startswith(path + "/") for path in listed)
    ]
    assert unlisted == []


def test_train_watches_all_that_the_package_carries():
    """`store/` is watched whole; a plug-in's folder by the plug-in in use."""
    carried = [path for path in CODE if path not in INFRASTRUCTURE and not path.endswith("__init__.py")]
    unwatched = [path for path in carried if not any(w == path or w.startswith(f"{path}/") for w in INFERENCE_CODE)]
    assert unwatched == ["store/files.py"]
    assert "store" in find_step("train").code


def find_helpers(kind: str, name: str) -> set[str]:
    """Return the files of its kind that a plug-in imports, directly or not."""
    folder = Path(audioml.__file__).parent / kind
    to_read, helpers = [f"{name}.py"], set()
    while to_read:
        imported = re.findall(rf"^from audioml\.{kind}\.(\w+) import", (folder / to_read.pop()).read_text(), re.M)
        to_read += [f"{module}.py" for module in imported if module not in helpers]
        helpers |= set(imported)
    return {f"{kind}/{module}.py" for module in helpers}


@pytest.mark.parametrize("name", plugin_names("features"))
def test_helpers_of_features_are_watched(name):
    assert find_helpers("features", name) <= set(INFERENCE_CODE)


@pytest.mark.parametrize("name", plugin_names("tasks"))
def test_helpers_of_tasks_are_watched(name):
    assert find_helpers("tasks", name) <= set(INFERENCE_CODE)


@pytest.mark.parametrize("name", plugin_names("models"))
def test_helpers_of_models_are_watched(name):
    assert find_helpers("models", name) <= set(find_step("train").code)
