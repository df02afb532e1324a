import types
from importlib import metadata

import pytest
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS, MODELS

import mmdet_vanilla.registry  # noqa: F401
from mmdet_vanilla import stack


def fake_import(monkeypatch, name, module):
    real = stack.importlib.import_module

    def import_module(wanted):
        if wanted != name:
            return real(wanted)
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(stack.importlib, 'import_module', import_module)


def test_the_installed_stack_is_supported():
    stack.check_stack()


@pytest.mark.parametrize(
    'name, module, message',
    [
        (
            'mmdet',
            ModuleNotFoundError(name='mmdet'),
            r'mmdet is missing \(expected >= 3.3, < 4.0\)',
        ),
        (
            'mmdet',
            ModuleNotFoundError(name='cv2'),
            'mmdet cannot be imported, since cv2 is missing',
        ),
        ('mmdet', types.SimpleNamespace(__version__='2.28.1'), 'mmdet 2.28.1 is not supported'),
        ('mmcv', types.SimpleNamespace(__version__='1.7.0'), 'mmcv 1.7.0 is not supported'),
        ('torch', types.SimpleNamespace(__version__='1.13.1+cu117'), 'torch 1.13.1'),
        ('mmdet', AssertionError('MMCV==2.2.0 is used'), 'MMCV==2.2.0 is used'),
        (
            'mmcv.ops',
            ImportError('_ext.so: undefined symbol: _ZN2at'),
            'compiled for another torch',
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_command_that_mends_it(monkeypatch, name, module, message):
    fake_import(monkeypatch, name, module)
    with pytest.raises(ImportError, match=message) as error:
        stack.check_stack()
    assert 'pip install' in str(error.value) and 'onedl-mmdetection' in str(error.value)


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
def test_two_stacks_over_each_other_are_told_apart(name, tmp_path, monkeypatch):
    onedl, openmmlab, *_ = stack._RIVALS[name]
    try:
        metadata.distribution(onedl)
        other = openmmlab
    except metadata.PackageNotFoundError:
        other = onedl
    folder = tmp_path / f'{other.replace("-", "_")}-0.10.7.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {other}\nVersion: 0.10.7\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(stack.StackError, match=f'{onedl} and {openmmlab} are both installed'):
        stack.check_stack()


def test_scope():
    assert MODULE2PACKAGE['mmdet_vanilla'] == 'mmdet_vanilla'
    for registry, name in ((MODELS, 'RTDETR'), (DATASETS, 'CocoDataset')):
        with registry.switch_scope_and_registry('mmdet_vanilla') as child:
            assert child.scope == 'mmdet_vanilla' and child.get(name) is not None
