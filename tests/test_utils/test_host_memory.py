import mmap
import sys

import pytest

from mmdet_vanilla.utils import host_memory as module
from mmdet_vanilla.utils.host_memory import host_memory

SIZE = 64 * 2**20


@pytest.mark.skipif(sys.platform != 'linux', reason='/proc is of Linux')
def test_memory_follows_what_is_held():
    before = host_memory()
    # Memory of its own: the heap might hand out what it already holds.
    block = mmap.mmap(-1, SIZE)
    block[:: mmap.PAGESIZE] = bytes(SIZE // mmap.PAGESIZE)
    held = host_memory()
    block.close()
    after = host_memory()
    assert held.now - before.now > 0.9 * SIZE
    assert after.now < held.now - 0.9 * SIZE
    # The kernel counts in batches, so that a peak may be a little off.
    assert after.peak - before.now > 0.9 * SIZE


@pytest.mark.parametrize('text', [None, '', 'VmRSS: 12 kB', 'VmRSS: x kB\nVmHWM: 1 kB', 'no colon'])
def test_systems_that_do_not_tell(tmp_path, monkeypatch, text):
    path = tmp_path / 'status'
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(module, '_STATUS', path)
    assert host_memory() is None
