"""No file runs code, changes a class or a module, hangs, or takes much more than its size."""

import argparse
import builtins
import collections
import functools
import os
import random
import socket
import stat
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from hostile_files import MARKER, archive, both, call, hostile_files, root, stream, tensor
from mmengine import logging as mmengine_logging
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, history_buffer

from mmdet_vanilla.utils import CheckpointError, checkpoint, latest_checkpoint, pickles
from mmdet_vanilla.utils.checkpoint import read_checkpoint, trust_checkpoints

FILES = hostile_files()


pytestmark = pytest.mark.usefixtures('no_hanging')


@pytest.fixture(params=[True, False], ids=['torch knows names', 'older torch'], autouse=True)
def _both_readers(request, monkeypatch):
    if request.param and not checkpoint._NAMES_CAN_BE_GIVEN:
        pytest.skip('this torch cannot be told which class a name stands for')
    monkeypatch.setattr(checkpoint, '_NAMES_CAN_BE_GIVEN', request.param)


def class_state():
    """Attributes of all classes and modules that a pickle could reach, and what these hold."""
    modules = (argparse, builtins, collections, functools, history_buffer, mmengine_logging, np, os)
    modules += (pickles, checkpoint, torch, torch._utils, torch.serialization, torch.storage)
    stand_ins = [value for value in pickles.STAND_INS.values() if isinstance(value, type)]
    classes = [argparse.Namespace, HistoryBuffer, ConfigDict, OrderedDict, Counter, deque]
    classes += [defaultdict, np.ndarray, np.dtype, torch.Tensor, torch.nn.Parameter, torch.Size]
    functions = [torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, pickles.scan]
    found = {}
    for owner in (*modules, *classes, *stand_ins, *functions):
        for key, value in list(vars(owner).items()):
            if key not in ('__warningregistry__', '__slotnames__', '__abstractmethods__'):
                content = dict(value) if isinstance(value, dict) and len(value) < 100 else None
                found[owner, key] = id(value), content and repr(sorted(map(str, content.items())))
    return found


@pytest.fixture
def unchanged(tmp_path, monkeypatch):
    """Checks that nothing has happened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'good.pth').write_bytes(archive(root(1)))
    (tmp_path / 'old.pth').write_bytes(stream(root(1)))
    HistoryBuffer()  # fills a dict of its class
    for name in ('good.pth', 'old.pth'):  # what is imported at first use
        assert read_checkpoint(name)['b'] == 1
    before = class_state()
    yield
    assert not os.path.exists(MARKER)
    assert class_state() == before
    if hasattr(torch.serialization, 'get_safe_globals'):
        ours = {(stand_in, name) for name, stand_in in pickles.STAND_INS.items()}
        assert not ours & set(torch.serialization.get_safe_globals())


def test_the_corpus_is_large_enough():
    assert len(FILES) > 300
    assert read_checkpoint.__module__ == checkpoint.__name__


def test_hostile_files_are_refused(unchanged, tmp_path):
    taken, large = {}, {}
    for what, content in FILES.items():
        (tmp_path / 'x.pth').write_bytes(content)
        # What asks for much must not get it; asking for code costs nothing.
        weighed = '.' not in what and len(content) < 10**6
        if weighed:
            tracemalloc.start()
        try:
            taken[what] = read_checkpoint('x.pth')
        except CheckpointError as error:
            assert 'x.pth' in str(error), what
        if weighed:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if peak > 3 * 10**6 + 400 * len(content):
                large[what] = peak
    assert taken == {} and large == {}


# Values over the allowed names, at random.


class Writer:
    """Writes a random pickle that torch could have written, but for its sense."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.places = 0

    def names(self, depth=0):
        names = [name for name in sorted(pickles._NAMES) if name.count('.')]
        full = self.random.choice(names)
        module, _, attribute = full.rpartition('.')
        return f'c{module}\n{attribute}\n'.encode()

    def value(self, depth=0):
        choice = self.random.choice
        kinds = [self.constant] * 3 + [self.names, self.known]
        if depth < 5:
            kinds += [self.container, self.called, self.made, self.stated] * 2
        written = choice(kinds)(depth + 1)
        if self.random.random() < 0.3 and self.places < 250:
            written += b'q' + bytes([self.places])
            self.places += 1
        return written

    def constant(self, depth):
        parts = [b'N', b'\x88', b'\x89', b'K\x03', b'K\x00', b'J\xff\xff\xff\xff', b'X\1\0\0\0x']
        parts += [b'X\x06\0\0\0latin1', b'X\x07\0\0\0storage', b'X\2\0\0\0f8', b'X\1\0\0\x000']
        parts += [b'G?\xf0\0\0\0\0\0\0', b')', b'}', b']', b'X\3\0\0\0cpu', b'X\x09\0\0\0__class__']
        return self.random.choice(parts)

    def known(self, depth):
        return b'h' + bytes([self.random.randrange(max(1, self.places))])

    def values(self, depth):
        return b''.join(self.value(depth) for _ in range(self.random.randrange(4)))

    def container(self, depth):
        begin, end = self.random.choice([(b'(', b't'), (b'](', b'e'), (b'}(', b'u')])
        return begin + self.values(depth) + end

    def called(self, depth):
        return self.names(depth) + b'(' + self.values(depth) + b't' + b'R'

    def made(self, depth):
        return self.names(depth) + b')\x81'

    def stated(self, depth):
        target = self.random.choice([self.names, self.called, self.made, self.known])(depth)
        return target + self.random.choice([self.value(depth), self.container(depth)]) + b'b'


def test_random_pickles_over_the_allowed_names_change_nothing(unchanged, tmp_path):
    """Also without the check before: what torch builds then is no code either."""
    read = 0
    for seed in range(300):
        value = Writer(seed).value()
        for content in both(root(value)).values() if seed % 5 == 0 else [archive(root(value))]:
            (tmp_path / 'x.pth').write_bytes(content)
            try:
                read_checkpoint('x.pth')
                read += 1
            except CheckpointError:
                pass
    assert read > 20


def test_the_readers_are_safe_without_the_check(unchanged, tmp_path, monkeypatch):
    """Two locks: each keeps code out alone."""
    with monkeypatch.context() as unlocked:
        unlocked.setattr(pickles, 'scan', lambda *args: None)
        _read_unchecked(tmp_path)


def _read_unchecked(tmp_path):
    for what, content in FILES.items():
        costs_alone = any(word in what for word in ('nested', 'large', 'shared', 'many', 'huge'))
        if what.startswith('zip: ') and not costs_alone and 'bytearray' not in what:
            (tmp_path / 'x.pth').write_bytes(content)
            try:
                read_checkpoint('x.pth')
            except CheckpointError:
                pass
    for seed in range(300):
        (tmp_path / 'x.pth').write_bytes(archive(root(Writer(seed).value())))
        try:
            read_checkpoint('x.pth')
        except CheckpointError:
            pass


def test_the_check_alone_refuses_all_but_senseless_values(tmp_path, monkeypatch):
    """The other lock: torch is not even called for what follows in no other form from a writer."""
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: {})
    left = set()
    for what, content in FILES.items():
        (tmp_path / 'x.pth').write_bytes(content)
        try:
            read_checkpoint(tmp_path / 'x.pth')
            left.add(what.removeprefix('zip: ').removeprefix('legacy: '))
        except CheckpointError:
            pass
    senseless = ('a history of', 'an array that is too large', 'a number of another size')
    senseless += ('a device that is not there', 'another size', 'a huge size')
    assert {what for what in left if not what.startswith(senseless)} == set()


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_flipped_bits_change_nothing(unchanged, tmp_path, kind):
    content = dict(a=torch.rand(3), b=HistoryBuffer([1.0], [1]), c=argparse.Namespace(x=[1]))
    torch.save(content, 'x.pth', _use_new_zipfile_serialization=kind == 'zip')
    data = (tmp_path / 'x.pth').read_bytes()
    rng = random.Random(0)
    outcomes = Counter()
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / 'x.pth').write_bytes(damaged)
        try:
            read_checkpoint('x.pth')
            outcomes['read'] += 1
        except CheckpointError:
            outcomes['refused'] += 1
    assert min(outcomes.values()) > 20


# Files that are none.


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _device(path):
    path.symlink_to('/dev/zero')


def _terminal(path):
    path.symlink_to('/dev/ptmx')


def _folder(path):
    path.mkdir()


def _link_to_itself(path):
    path.symlink_to(path)


def _linked_fifo(path):
    os.mkfifo(path.parent / 'pipe')
    path.symlink_to(path.parent / 'pipe')


NO_FILES = [_fifo, _socket, _device, _terminal, _folder, _link_to_itself, _linked_fifo]


@pytest.mark.parametrize('make', NO_FILES, ids=lambda make: make.__name__[1:])
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
@pytest.mark.parametrize('trusted', [False, True])
def test_what_is_no_regular_file_is_refused(tmp_path, make, name, trusted):
    make(tmp_path / name)
    trust_checkpoints(trusted)
    try:
        with pytest.raises(CheckpointError, match='no regular file|cannot be read'):
            read_checkpoint(tmp_path / name)
    finally:
        trust_checkpoints(False)


def test_a_file_that_is_exchanged_for_a_pipe_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / 'x.pth')
    regular = os.stat(__file__)
    monkeypatch.setattr(os, 'stat', lambda *args, **kwargs: regular)
    assert stat.S_ISREG(os.stat(tmp_path / 'x.pth').st_mode)
    with pytest.raises(CheckpointError, match='no regular file'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('make', NO_FILES, ids=lambda make: make.__name__[1:])
@pytest.mark.parametrize('name', ['last_checkpoint', 'epoch_2.pth'])
def test_the_search_for_the_latest_checkpoint_does_not_wait(tmp_path, make, name):
    (tmp_path / 'epoch_1.pth').write_bytes(archive(root(1)))
    os.utime(tmp_path / 'epoch_1.pth', (0, 0))
    make(tmp_path / name)
    latest = latest_checkpoint(tmp_path)
    # DeepSpeed's are folders.
    expected = name if make is _folder and name == 'epoch_2.pth' else 'epoch_1.pth'
    assert latest == str(tmp_path / expected)


# What is good.


@pytest.mark.parametrize('zipped', [True, False])
def test_good_values_come_back_as_they_were(tmp_path, zipped):
    base = torch.arange(12.0)
    content = dict(
        tensors=[base, base[2:8].view(2, 3).t(), torch.rand(2).half(), torch.zeros(0, 3)],
        types=[torch.tensor([1, 2], dtype=dtype) for dtype in (torch.int8, torch.bool)],
        complex=torch.zeros(2, dtype=torch.complex64),
        parameter=torch.nn.Parameter(torch.rand(3)),
        state=torch.nn.Linear(2, 2).state_dict(),
        arrays=[np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(2)), np.array(['a', 'ü'])],
        empty=np.zeros((0, 4), np.float32),
        swapped=np.arange(3, dtype='>i4'),
        numbers=[np.float32(1.5), np.int64(-4), np.bool_(True), 2**70, -1, 1.5, None, True],
        containers=[Counter([1, 1, 2]), OrderedDict(b=1, a=2), {1, 2}, frozenset('a'), (1, (2,))],
        dtype=[torch.float32, np.dtype('f4'), torch.device('cpu'), torch.Size([2, 3])],
        bytes=[b'a\xff', bytearray(b'x'), slice(1, None), 1 + 2j],
        args=argparse.Namespace(lr=0.1, sizes=[1, 2], array=np.ones(2)),
        history=HistoryBuffer([1.0, 2.0], [1, 2], 50),
        fresh=HistoryBuffer(),
        meta=ConfigDict(a=ConfigDict(b=[1])),
        queue=deque([1, 2], 3),
        default=defaultdict(list, a=[1]),
    )
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / 'x.pth')
    assert list(read) == list(content)
    for key in ('tensors', 'types'):
        assert all(map(torch.equal, read[key], content[key]))
    assert read['tensors'][0].data_ptr() == read['tensors'][1].untyped_storage().data_ptr()
    assert torch.equal(read['complex'], content['complex'])
    assert isinstance(read['parameter'], torch.nn.Parameter)
    assert torch.equal(read['parameter'], content['parameter'])
    assert read['state']._metadata == content['state']._metadata
    for a, b in zip([*read['arrays'], read['empty']], [*content['arrays'], content['empty']]):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all() and a.flags.writeable
    assert read['arrays'][1].flags.f_contiguous
    assert read['swapped'].tolist() == [0, 1, 2]
    for key in ('numbers', 'containers', 'dtype', 'bytes', 'meta'):
        assert read[key] == content[key], key
        assert list(map(type, read[key])) == list(map(type, content[key])) or key == 'meta'
    assert type(read['args']) is argparse.Namespace and read['args'].array.tolist() == [1, 1]
    history = read['history']
    assert type(history) is HistoryBuffer and history.max_length == 50
    assert [array.tolist() for array in history.data] == [[1, 2], [1, 2]]
    assert [array.dtype for array in history.data] == [a.dtype for a in content['history'].data]
    assert history.mean() == content['history'].mean() and history.statistics('max') == 2
    history.update(3.0)
    assert read['fresh'].data[0].dtype == content['fresh'].data[0].dtype
    assert read['queue'] == [1, 2] and read['default'] == {'a': [1]}  # as plain containers


def test_a_file_that_its_owner_trusts_runs_its_code(tmp_path, monkeypatch):
    """The counterpart: what the tests above look for does happen where it may."""
    monkeypatch.chdir(tmp_path)
    data = root(call(('os', 'system'), f'touch {MARKER}'))
    trust_checkpoints()
    try:
        for content in both(data).values():
            (tmp_path / 'x.pth').write_bytes(content)
            assert read_checkpoint('x.pth')['b'] == 0
            os.remove(MARKER)
        (tmp_path / 'x.pth').write_bytes(FILES['a program'])
        with pytest.raises(CheckpointError, match='TorchScript'):
            read_checkpoint('x.pth')
    finally:
        trust_checkpoints(False)
    (tmp_path / 'x.pth').write_bytes(archive(data))
    with pytest.raises(CheckpointError, match='os.system'):
        read_checkpoint('x.pth')
    assert not os.path.exists(MARKER)


def test_tensors_may_share_their_numbers(tmp_path):
    weight = torch.rand(1000)
    torch.save({str(i): weight for i in range(10)}, tmp_path / 'x.pth')
    assert len(read_checkpoint(tmp_path / 'x.pth')) == 10
    (tmp_path / 'y.pth').write_bytes(archive(root(tensor(shape=(1000,), stride=(0,)))))
    assert read_checkpoint(tmp_path / 'y.pth')['b'].shape == (1000,)
