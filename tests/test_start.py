"""What starting costs: modules that are not imported before something needs them."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mmdet.registry import MODELS

import mmdet_vanilla
import mmdet_vanilla.deferred_imports as deferred_imports_module
from mmdet_vanilla.deferred_imports import deferred_imports

ROOT = Path(__file__).resolve().parents[1]


def modules_after(program):
    """Names of all modules that a fresh interpreter has imported after a program."""
    program += '\nimport sys; print("\\n".join(sys.modules))'
    output = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert not output.returncode, output.stderr
    return set(output.stdout.splitlines())


def test_the_package_leaves_out_what_hardly_anything_needs():
    modules = modules_after('import mmdet_vanilla')
    assert 'mmdet_vanilla.models' in modules and 'torch' in modules
    left_out = {'imgaug', 'imagecorruptions', 'onnx', 'onnxruntime', 'openvino', 'selenium'}
    assert not modules & left_out


COMMANDS = [
    path
    for path in sorted((ROOT / 'tools').glob('*.py'))
    # These stand alone, or their options name what the package can measure.
    if path.stem not in ('benchmark', 'benchmark_check_data', 'infer_onnx')
]


@pytest.mark.parametrize('path', COMMANDS, ids=lambda path: path.stem)
def test_a_tool_looks_at_its_arguments_before_it_imports_anything_heavy(path):
    program = (
        'import runpy, sys\n'
        f'sys.argv = [{str(path)!r}, "--help"]\n'
        'try:\n'
        '    sys.modules["__main__"].__file__ = sys.argv[0]\n'
        '    runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit as stop:\n'
        '    assert not stop.code'
    )
    modules = modules_after(program)
    assert 'mmdet_vanilla.utils.cli' in modules
    assert not modules & {'torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'cv2'}


def test_registering_twice_changes_nothing():
    before = MODELS.get('VanillaNet')
    mmdet_vanilla.register()
    assert MODELS.get('VanillaNet') is before is not None


def test_what_was_put_off_is_imported_when_it_is_called(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'imagecorruptions.py').write_text(
        'def corrupt(image, severity):\n    return severity'
    )
    monkeypatch.delitem(sys.modules, 'imagecorruptions', raising=False)
    with deferred_imports():
        from imagecorruptions import corrupt
    assert 'imagecorruptions' not in sys.modules
    assert corrupt('image', severity=3) == 3
    assert 'imagecorruptions' in sys.modules


def test_what_was_imported_before_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType('imagecorruptions')
    monkeypatch.setitem(sys.modules, 'imagecorruptions', module)
    with deferred_imports():
        assert sys.modules['imagecorruptions'] is module
    assert sys.modules['imagecorruptions'] is module


def test_what_is_not_installed_stays_missing(monkeypatch):
    monkeypatch.setattr(deferred_imports_module, '_PUT_OFF', ('imagecorruptions_of_nobody',))
    with deferred_imports(), pytest.raises(ModuleNotFoundError):
        import imagecorruptions_of_nobody  # noqa: F401
