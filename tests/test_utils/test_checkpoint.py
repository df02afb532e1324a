import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdet_vanilla.utils import UnsafeCheckpointError, fetch_checkpoint, read_checkpoint


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


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file({'a': torch.arange(3)}, tmp_path / 'x.safetensors')
    assert read_checkpoint(tmp_path / 'x.safetensors')['a'].tolist() == [0, 1, 2]
    (tmp_path / 'y.safetensors').write_bytes(b'\0' * 20)
    with pytest.raises(ValueError, match='truncated or not a safetensors file'):
        read_checkpoint(tmp_path / 'y.safetensors')


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
