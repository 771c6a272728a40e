"""The two ways in which the plugin gets into Airflow (deploy/README.md): a wheel, and a ConfigMap of its files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
PACKAGE = SOURCE / "windlass_airflow"
# Of a ConfigMap. kubectl would also keep a copy in an annotation, so the README applies it server-side.
CONFIGMAP_BYTES_MAX = 1024 * 1024
LOADS = (
    "import sys; from airflow.executors.executor_loader import ExecutorLoader as E; "
    "E.load_executor('windlass_airflow.WindlassExecutor'); print(sys.modules['windlass_airflow'].__file__)"
)


def module_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def loaded_from(folder: Path) -> Path:
    """Load the executor in a fresh interpreter that finds the plugin in `folder` alone."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {LOADS}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_a_wheel_has_every_module_and_loads(tmp_path):
    source = shutil.copytree(SOURCE, tmp_path / "source", ignore=shutil.ignore_patterns("tests", "__pycache__", ".*"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    built = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if name.startswith("windlass_airflow/")}
        assert packed == module_names(PACKAGE)
        assert not [name for name in archive.namelist() if "test" in name]
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert b"Requires-Dist: apache-airflow<3,>=2.10" in archive.read(metadata)
        archive.extractall(tmp_path / "site")
    assert loaded_from(tmp_path / "site").is_relative_to(tmp_path / "site")


def test_a_configmap_holds_it(tmp_path):
    # `kubectl create configmap --from-file=FOLDER` takes the files of the folder itself and no folder in it.
    assert not [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sum(path.stat().st_size for path in PACKAGE.iterdir() if path.is_file()) < CONFIGMAP_BYTES_MAX / 2
    mounted = tmp_path / "python" / "windlass_airflow"
    mounted.mkdir(parents=True)
    for path in PACKAGE.iterdir():
        if path.is_file():
            shutil.copy(path, mounted)
    assert loaded_from(tmp_path / "python").is_relative_to(mounted)
