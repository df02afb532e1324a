import argparse
import os
import pickle
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmdet_vanilla.utils import (
    CheckpointError,
    UnsafeCheckpointError,
    fetch_checkpoint,
    latest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mmdet_vanilla.utils.arguments import add_trust_option
from mmdet_vanilla.utils.checkpoint import restrict_mmengine_loading
from mmdet_vanilla.utils.cli import run


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, 'w')


def test_what_mmengine_writes(tmp_path):
    content = dict(
        state_dict={'a.weight': torch.rand(2, 3), 'n': torch.tensor(3)},
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1]))),
        numbers=[np.float32(1.5), np.arange(3), np.int64(4)],
        meta=dict(epoch=3, classes=('a', 'ü')),
        half=torch.rand(2).bfloat16(),
        param=torch.nn.Parameter(torch.rand(2)),
        param_schedulers=[dict(milestones=Counter([8, 11]))],
    )
    torch.save(content, tmp_path / 'x.pth')
    read = read_checkpoint(tmp_path / 'x.pth')
    assert torch.equal(read['state_dict']['a.weight'], content['state_dict']['a.weight'])
    assert read['meta'] == content['meta'] and read['numbers'][0] == 1.5
    assert read['numbers'][1].tolist() == [0, 1, 2]
    assert read['message_hub']['log_scalars']['loss'].data[0].tolist() == [1.0, 2.0]
    assert torch.equal(read['half'], content['half'])


@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_not_run(tmp_path, zipped):
    path, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    torch.save(dict(a=torch.rand(2), b=Evil(marker)), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match='open'):
        read_checkpoint(path)
    assert not marker.exists()


class Getattr:
    """Reaches for a method that runs code."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_getattr_reaches_only_what_a_history_buffer_needs(tmp_path):
    torch.save(dict(b=Getattr()), tmp_path / 'x.pth')
    with pytest.raises(UnsafeCheckpointError, match='getattr'):
        read_checkpoint(tmp_path / 'x.pth')


def test_plain_pickle_is_not_run(tmp_path):
    path, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises((UnsafeCheckpointError, ValueError)):
        read_checkpoint(path)
    assert not marker.exists()


def test_programs_and_packed_files_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / 'program.pt'))
    with pytest.raises(UnsafeCheckpointError, match='TorchScript program'):
        read_checkpoint(tmp_path / 'program.pt')
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\0' * 10**6)
    with pytest.raises(UnsafeCheckpointError, match='is compressed'):
        read_checkpoint(tmp_path / 'bomb.pth')


@pytest.mark.parametrize('name', ['evil.pth', 'https://x.y/evil.pth', 'torchvision://resnet18'])
def test_mmengine_loads_by_file_address_and_name_without_running_code(tmp_path, monkeypatch, name):
    evil, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    torch.save(dict(a=torch.rand(2), b=Evil(marker)), evil)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, to: shutil.copy(evil, to))
    models = dict(resnet18='https://x.y/evil.pth')
    monkeypatch.setattr(mmengine_checkpoint, 'get_torchvision_models', lambda: models)
    monkeypatch.chdir(tmp_path)
    restrict_mmengine_loading()
    with pytest.raises(UnsafeCheckpointError, match='open'):
        CheckpointLoader.load_checkpoint(name)
    assert not marker.exists()


@pytest.mark.parametrize('url', ['http://127.0.0.1:1/x.pth', 'http://127.0.0.1:port/x.pth'])
def test_addresses_that_cannot_be_reached(tmp_path, monkeypatch, url):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=rf'{url} cannot be downloaded.*put it to .*x\.pth'):
        fetch_checkpoint(url)


@pytest.mark.parametrize('name', ['s3://a/b.pth', 'petrel://a/b.pth', 'pavi://a/b.pth'])
def test_other_stores_are_refused(name):
    restrict_mmengine_loading()
    with pytest.raises(UnsafeCheckpointError, match='--trust-checkpoint'):
        CheckpointLoader.load_checkpoint(name)


def test_the_text_of_a_config_is_dropped(tmp_path):
    torch.save(dict(meta=dict(config='1 / 0', epoch=1)), tmp_path / 'x.pth')
    restrict_mmengine_loading()
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))['meta'] == dict(epoch=1)


def test_the_latest_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path / 'none') is None
    for i, name in enumerate(('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth')):
        write_checkpoint(dict(a=i), tmp_path / name)
        os.utime(tmp_path / name, (i, i))
    assert latest_checkpoint(tmp_path).endswith('epoch_3.pth')
    pointer = tmp_path / 'last_checkpoint'
    for text in ('elsewhere/epoch_2.pth', str(tmp_path / 'epoch_2.pth')):  # the folder was moved
        pointer.write_text(text)
        assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_2.pth')
    content = (tmp_path / 'epoch_2.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(content[: len(content) // 2])
    assert latest_checkpoint(tmp_path).endswith('epoch_3.pth')
    pointer.write_text('')
    assert latest_checkpoint(tmp_path).endswith('epoch_3.pth')


def test_writing_replaces_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / 'x.pth'
    write_checkpoint(dict(a=1), path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_checkpoint(dict(a=lambda: 0), path)
    assert read_checkpoint(path) == dict(a=1)
    calls = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))
        )
    write_checkpoint(dict(a=2), path)
    assert calls == ['fsync', 'replace', 'fsync']  # the file, and then the folder
    assert [file.name for file in tmp_path.iterdir()] == ['x.pth']


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file({'a': torch.arange(3)}, tmp_path / 'x.safetensors')
    assert read_checkpoint(tmp_path / 'x.safetensors')['a'].tolist() == [0, 1, 2]
    (tmp_path / 'y.safetensors').write_bytes(b'\0' * 20)
    with pytest.raises(ValueError, match='truncated or not a safetensors file'):
        read_checkpoint(tmp_path / 'y.safetensors')


class WrongCall:
    """Calls something that is allowed in a way that is not."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'call',
    [
        (torch.device, ('nowhere',)),
        (torch.Size, (1, 2, 3)),
        (Counter, (3,)),
        (slice, ()),
        (set, (), {'a': 1}),
        (torch._utils._rebuild_parameter, (None, 1)),
        (HistoryBuffer, ([1], [1, 2])),
    ],
    ids=range(7),
)
@pytest.mark.parametrize('zipped', [True, False])
def test_wrong_calls(tmp_path, call, zipped):
    content = dict(a=torch.rand(2), b=WrongCall(*call))
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match='damaged|truncated|holds a state'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('kind', ['zip', 'pickle', 'safetensors'])
def test_flipped_bytes(tmp_path, kind):
    """Whatever is damaged is read, or an error of our own."""
    path = tmp_path / ('x.safetensors' if kind == 'safetensors' else 'x.pth')
    if kind == 'safetensors':
        pytest.importorskip('safetensors.torch').save_file({'a': torch.rand(3)}, path)
    else:
        content = dict(a=torch.rand(3), b=HistoryBuffer([1.0], [1]), n=[np.float32(1)])
        torch.save(content, path, _use_new_zipfile_serialization=kind == 'zip')
    data = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(len(data), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 10


def test_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        fetch_checkpoint(str(tmp_path / 'none.pth'))
    torch.save(dict(a=torch.rand(1000)), tmp_path / 'x.pth')
    data = (tmp_path / 'x.pth').read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 10):
        (tmp_path / 'y.pth').write_bytes(data[:size])
        with pytest.raises(ValueError, match='truncated|damaged'):
            read_checkpoint(tmp_path / 'y.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds a list'):
        read_checkpoint(tmp_path / 'list.pth')


@pytest.mark.parametrize('option', ['--trust-checkpoint', '--trust-pickle', None])
def test_trust_is_given_on_the_command_line_for_one_run(tmp_path, option):
    evil, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    torch.save(dict(a=torch.rand(2), b=Evil(marker)), evil)
    parser = argparse.ArgumentParser()
    add_trust_option(parser)
    assert '--trust-pickle' not in parser.format_help()

    def parse_args():
        return parser.parse_args([option] if option else [])

    def main(args):
        CheckpointLoader.load_checkpoint(str(evil))

    if option:
        run(parse_args, main)
        assert marker.exists()
        marker.unlink()
        option = None  # the next run of the process begins without
    with pytest.raises(SystemExit):
        run(parse_args, main)
    assert not marker.exists()


def test_names_that_lead_to_files_in_mmengines_folder(tmp_path, monkeypatch):
    torch.save(dict(b=Evil(tmp_path / 'marker')), tmp_path / 'evil.pth')
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    monkeypatch.setattr(mmengine_checkpoint, 'get_external_models', lambda: dict(x='evil.pth'))
    restrict_mmengine_loading()
    for scheme in ('open-mmlab', 'openmmlab'):
        with pytest.raises(UnsafeCheckpointError, match='open'):
            CheckpointLoader.load_checkpoint(f'{scheme}://x')
    assert not (tmp_path / 'marker').exists()
