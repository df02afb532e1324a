"""Skips, visibly, what needs the packages of requirements/deploy.txt and mmdeploy."""

import importlib.util

import pytest

MISSING = [
    name
    for name in ('mmdeploy', 'onnx', 'onnxruntime', 'onnxslim')
    if importlib.util.find_spec(name) is None
]


class SkippedModule(pytest.Module):
    """A test file whose imports would fail."""

    def collect(self):
        pytest.skip(f'not installed: {", ".join(MISSING)}', allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if MISSING:
        return SkippedModule.from_parent(parent, path=module_path)
