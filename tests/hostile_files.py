"""Files that try to run code, to change classes, or to cost far more than their size.

Pickles are put together by hand, since Python's own writer makes none of these.
"""

import io
import pickle
import struct
import tarfile
import zipfile

import torch

MARKER = 'marker'  # what code that runs leaves in the working directory
HISTORY = ('mmengine.logging.history_buffer', 'HistoryBuffer')


# Parts of a pickle.


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def text(value):
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def number(value):
    if -(2**31) <= value < 2**31:
        return b'J' + struct.pack('<i', value)
    data = pickle.encode_long(value)
    return b'\x8a' + bytes([len(data)]) + data


def value_of(value):
    """A pickled constant, or a part that is pickled already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or value is None:
        return {None: b'N', True: b'\x88', False: b'\x89'}[value]
    return text(value) if isinstance(value, str) else number(value)


def tuple_of(*values):
    return b'(' + b''.join(map(value_of, values)) + b't'


def list_of(*values):
    return b'](' + b''.join(map(value_of, values)) + b'e'


def dict_of(**values):
    return b'}(' + b''.join(text(k) + value_of(v) for k, v in values.items()) + b'u'


def call(function, *arguments):
    return name(*function) + tuple_of(*arguments) + b'R'


def state(target, value):
    return target + value + b'b'


def new(cls):
    return name(*cls) + b')\x81'


def storage(key='0', count=4, kind=('torch', 'FloatStorage')):
    return tuple_of('storage', name(*kind), key, 'cpu', count) + b'Q'


NO_HOOKS = call(('collections', 'OrderedDict'))


def tensor(base=None, offset=0, shape=(4,), stride=(1,), hooks=NO_HOOKS, more=()):
    rebuild = ('torch._utils', '_rebuild_tensor_v2')
    base = storage() if base is None else base
    return call(rebuild, base, offset, tuple_of(*shape), tuple_of(*stride), False, hooks, *more)


def encoded(data):
    return call(('_codecs', 'encode'), data.decode('latin1'), 'latin1')


def array(code='f8', data=bytes(8), shape=(1,), dtype_state=None):
    dtype = call(('numpy', 'dtype'), code, False, True)
    entries = dtype_state or (3, '<', None, None, None, -1, -1, 0)
    dtype = state(dtype, tuple_of(*entries))
    reconstruct = ('numpy.core.multiarray', '_reconstruct')
    empty = call(reconstruct, name('numpy', 'ndarray'), tuple_of(0), encoded(b'b'))
    return state(empty, tuple_of(1, tuple_of(*shape), dtype, False, encoded(data)))


def history(log=None, count=None, most=10):
    buffers = dict(_log_history=log or array(), _count_history=count or array('i8'))
    return state(new(HISTORY), dict_of(max_length=most, **buffers))


def root(value):
    """A whole pickle: a dict with a tensor and one more entry."""
    return b'\x80\x02' + dict_of(a=tensor(), b=value) + b'.'


# Files.


def archive(data, numbers=bytes(16), more=(), folder='archive', packed=zipfile.ZIP_STORED):
    file = io.BytesIO()
    entries = {'data.pkl': data, 'byteorder': b'little', 'data/0': numbers, 'version': b'3\n'}
    with zipfile.ZipFile(file, 'w', packed) as out:
        for key, content in [*entries.items(), *more]:
            out.writestr(key if key.startswith('/') else f'{folder}/{key}', content)
    return file.getvalue()


def stream(data, numbers=bytes(16), keys=('0',), count=4, view=b'N'):
    """The format before 1.6; its persistent ids have one entry more."""
    magic, protocol = torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION
    parts = [magic, protocol, dict(little_endian=True)]
    head = b''.join(pickle.dumps(part, 2) for part in parts)
    data = data.replace(b'tQ', view + b'tQ')
    return head + data + pickle.dumps(list(keys), 2) + struct.pack('<q', count) + numbers


def both(data):
    return dict(zip=archive(data), legacy=stream(data))


def _calls():
    """What runs code, or leads to something that does, by name and arguments."""
    command = f'touch {MARKER}'
    python = f'open({MARKER!r}, "w")'
    return {
        ('builtins', 'eval'): [python],
        ('builtins', 'exec'): [python],
        ('builtins', 'compile'): [python, 'x', 'exec'],
        ('builtins', 'open'): [MARKER, 'w'],
        ('builtins', '__import__'): ['antigravity'],
        ('builtins', 'setattr'): [name('argparse', 'Namespace'), 'x', 1],
        ('builtins', 'getattr'): [name('os', 'path'), 'join'],
        ('builtins', 'type'): ['X', tuple_of(), dict_of()],
        ('__builtin__', 'eval'): [python],
        ('__builtin__', 'apply'): [name('os', 'system'), tuple_of(command)],
        ('io', 'open'): [MARKER, 'w'],
        ('os', 'system'): [command],
        ('posix', 'system'): [command],
        ('nt', 'system'): [command],
        ('subprocess', 'Popen'): [list_of('touch', MARKER)],
        ('subprocess', 'check_output'): [list_of('touch', MARKER)],
        ('pty', 'spawn'): [list_of('touch', MARKER)],
        ('shutil', 'copyfile'): ['/proc/self/stat', MARKER],
        ('pathlib', 'Path'): [MARKER],
        ('importlib', 'import_module'): ['antigravity'],
        ('runpy', 'run_path'): ['evil.py'],
        ('code', 'InteractiveInterpreter'): [],
        ('types', 'FunctionType'): [],
        ('functools', 'partial'): [name('os', 'system'), command],
        ('operator', 'attrgetter'): ['system'],
        ('operator', 'methodcaller'): ['system', command],
        ('collections', 'namedtuple'): ['x', 'y'],
        ('argparse', 'FileType'): ['w'],
        ('argparse', 'ArgumentParser'): [],
        ('numpy', 'load'): ['x.npy', None, True],
        ('numpy', 'save'): [MARKER, 1],
        ('numpy.testing._private.utils', 'runstring'): [python, dict_of()],
        ('torch', 'load'): ['evil.pth'],
        ('torch', 'save'): [1, MARKER],
        ('torch', 'manual_seed'): [0],
        ('torch', 'set_num_threads'): [1],
        ('torch', 'Tensor'): [2**40],
        ('torch', 'empty'): [2**40],
        ('torch.hub', 'load'): ['.', 'x'],
        ('torch.jit', 'load'): ['evil.pt'],
        ('torch.storage', '_load_from_bytes'): [encoded(b'x')],
        ('torch.serialization', 'add_safe_globals'): [list_of()],
        ('torch.serialization', 'load'): ['evil.pth'],
        ('torch.utils.cpp_extension', 'load'): ['x', 'x.cpp'],
        ('torch._tensor', '_rebuild_from_type_v2'): [
            *(name('collections', 'OrderedDict'), name('torch', 'Tensor')),
            *(tuple_of(), dict_of(x=1)),
        ],
        ('torch._utils', '_rebuild_meta_tensor_no_storage'): [1, 2, 3, 4],
        ('torch._utils', '_set_obj_state'): [name('argparse', 'Namespace'), dict_of(x=1)],
        ('torch._utils', '_rebuild_parameter_with_state'): [
            *(tensor(), True, NO_HOOKS, dict_of(grad=1))
        ],
        ('torch.nn.modules.module', 'Module'): [],
        ('torch.nn.parameter', 'Parameter'): [tensor()],
        ('mmengine.config', 'Config'): [],
        ('mmengine.registry', 'build_from_cfg'): [],
        ('mmengine.logging.message_hub', 'MessageHub'): ['x'],
        ('mmdet_vanilla.utils.checkpoint', 'trust_checkpoints'): [True],
        ('mmdet_vanilla.utils', 'checkpoint.trust_checkpoints'): [True],
        ('collections', 'OrderedDict.__init__'): [],
    }


def _states():
    """A state for what must not have one."""
    namespace, history_buffer = name('argparse', 'Namespace'), name(*HISTORY)
    poison = dict_of(x=1, __init__=1)
    targets = dict(
        namespace=namespace,
        history_buffer=history_buffer,
        ordered_dict=name('collections', 'OrderedDict'),
        counter=name('collections', 'Counter'),
        ndarray=name('numpy', 'ndarray'),
        dtype=name('numpy', 'dtype'),
        tensor_dtype=name('torch', 'float32'),
        function=name('torch._utils', '_rebuild_tensor_v2'),
        scalar=name('numpy.core.multiarray', 'scalar'),
        storage=name('torch', 'FloatStorage'),
        a_dict=dict_of(),
        a_list=list_of(),
        a_tensor=tensor(),
        a_counter=call(('collections', 'Counter')),
        a_set=call(('builtins', 'set'), list_of()),
    )
    yield from ((f'state of {k}', state(v, poison)) for k, v in targets.items())
    slots = tuple_of(None, poison)
    for key in ('namespace', 'history_buffer', 'ordered_dict'):
        yield f'slots of {key}', state(targets[key], slots)
    yield 'slots of an instance', state(new(('argparse', 'Namespace')), slots)
    yield (
        'methods of an OrderedDict',
        state(NO_HOOKS, dict_of(items=name('collections', 'Counter'))),
    )
    for key in ('__class__', '__dict__', '__reduce__'):
        yield f'{key} of a Namespace', state(new(('argparse', 'Namespace')), dict_of(**{key: 1}))
    yield (
        'class of a class',
        state(new(('argparse', 'Namespace')), dict_of(x=state(history_buffer, poison))),
    )
    yield 'a statistic that is private', call(('builtins', 'getattr'), history_buffer, '__init__')
    yield 'a statistic of another', call(('builtins', 'getattr'), namespace, 'mean')
    yield 'a class as data', namespace
    yield 'a function as data', name('torch._utils', '_rebuild_tensor_v2')
    yield 'a call of data', dict_of(x=1) + b')R'
    yield 'a new number', name('torch', 'float32') + b')\x81'
    yield 'a new class with arguments', name(*HISTORY) + tuple_of(1) + b'\x81'


def _steps():
    """Steps of a pickle that torch.save does not use."""
    command = text(f'touch {MARKER}')
    system = b'os\nsystem\n'
    return {
        'STACK_GLOBAL': text('os') + text('system') + b'\x93' + tuple_of(command) + b'R',
        'INST': b'(' + command + b'i' + system,
        'OBJ': b'(c' + system + command + b'o',
        'NEWOBJ_EX': name('argparse', 'Namespace') + b')}\x92',
        'EXT1': b'\x82\x01',
        'EXT4': b'\x84' + struct.pack('<i', 1),
        'PERSID': b'Pstorage\n',
        'a module': tuple_of('module', name('argparse', 'Namespace'), 'x.py', 'x') + b'Q',
        'another persistent id': number(1) + b'Q',
        'FRAME': b'\x95' + struct.pack('<Q', 2**62),
        'BINBYTES8': b'\x8e' + struct.pack('<Q', 2**62),
        'BYTEARRAY8': b'\x96' + struct.pack('<Q', 2**62),
        'BINUNICODE8': b'\x8d' + struct.pack('<Q', 2**62),
        'BINUNICODE of 4 GB': b'X' + struct.pack('<I', 2**32 - 1),
        'LONG4': b'\x8b' + struct.pack('<i', 2**31 - 1),
        'LONG': b'L' + b'9' * 20000 + b'L\n',
        'INT': b'I' + b'9' * 20000 + b'\n',
        'NEXT_BUFFER': b'\x97',
        'READONLY_BUFFER': b'\x98',
        'EMPTY_SET': b'\x8f',
        'FROZENSET': b'(\x91',
        'DICT': b'(' + text('x') + number(1) + b'd',
        'DUP': b'N2',
        'POP': b'NN0',
        'a pickle of protocol 5': b'\x80\x05N',
        'an empty stack': b'R',
        'a mark that is not there': b'te',
        'a memo that is not there': b'h\x77',
        'a name without an end': b'c' + b'x' * 3000,
        'a line without an end': b'carg',
        'a number that is no key': name('collections', 'OrderedDict') + b'}s',
        'an odd dict': b'}(' + text('x') + b'u',
        'items of a list': b'](' + text('x') + number(1) + b'u',
        'entries of a dict': b'}' + number(1) + b'a',
        'entries of a set': call(('builtins', 'set'), list_of()) + number(1) + b'a',
    }


def _costs():
    """What would take far more time or memory than the file has bytes."""
    doubled = b''.join(b'q\x01h\x01\x86' for _ in range(60))  # (x, x), memo 1, again and again
    lists = b']q\x00' + b''.join(
        b']q' + bytes([i]) + b'(h' + bytes([i - 1]) + b'h' + bytes([i - 1]) + b'e'
        for i in range(1, 60)
    )
    return {
        'a nested tuple as a key': b'}' + number(1) + doubled + number(1) + b's',
        'a tuple as a key': b'}' + tuple_of(1, 2) + number(1) + b's',
        'a nested tuple in a set': call(('builtins', 'set'), list_of(number(1) + doubled)),
        'a nested tuple in a frozenset': call(
            ('builtins', 'frozenset'), list_of(number(1) + doubled)
        ),
        'a nested tuple in pairs': call(
            ('collections', 'OrderedDict'), list_of(tuple_of(number(1) + doubled, 1))
        ),
        'shared tuples': number(1) + doubled,
        'shared lists': lists,
        'a deep list': b']' * 20000 + b'a' * 19999,
        'a deep tuple': b')' + b'\x85' * 200000,
        'a list that contains itself': b']q\x05h\x05a',
        'a dict that contains itself': b'}q\x05' + text('x') + b'h\x05s',
        'a state that contains itself': new(('argparse', 'Namespace'))
        + b'q\x05'
        + dict_of(x=b'h\x05')
        + b'b',
        'keys that fall together': b'}('
        + b''.join(number(i * (2**61 - 1)) + b'N' for i in range(1, 3000))
        + b'u',
        'a bytearray of a number': call(('builtins', 'bytearray'), 2**40),
        'a bytearray of ranges': call(('builtins', 'bytearray'), list_of(1, 2)),
        'a Counter of a text': call(('collections', 'Counter'), 'x' * 100),
        'a packed text': call(('_codecs', 'encode'), 'x', 'zip'),
        'a complex of a text': call(('builtins', 'complex'), '1j'),
        'a storage that is not there': tensor(storage('7')),
        'a storage of a folder': tensor(storage('../data.pkl')),
        'a storage that is too large': tensor(storage('0', 2**30), shape=(2**30,)),
        'a storage of another kind': tensor(storage(kind=('torch', 'DoubleStorage'))),
        'a storage of negative size': tensor(storage('0', -4)),
        'a storage by call': call(('torch', 'FloatStorage'), 2**40),
        'a storage without a type': call(('torch.storage', 'UntypedStorage'), 2**40),
        'a storage alone': storage(),
        'a storage of a dtype': tensor(storage(kind=('torch', 'float32'))),
        'a tensor that is too large': tensor(shape=(2**34,)),
        'a tensor of one number': tensor(shape=(2**40,), stride=(0,)),
        'many tensors of one number': list_of(*[tensor(shape=(2**18,), stride=(0,))] * 30),
        'a tensor with a negative offset': tensor(offset=-1),
        'a tensor with a negative side': tensor(shape=(-4,)),
        'a tensor with a negative stride': tensor(stride=(-1,)),
        'a tensor behind its storage': tensor(offset=1),
        'a tensor with more sides': tensor(shape=(2, 2)),
        'a tensor with 65 sides': tensor(shape=(1,) * 65, stride=(1,) * 65),
        'a tensor of another tensor': tensor(tensor()),
        'a tensor with metadata': tensor(more=(dict_of(conj=True),)),
        'a tensor with hooks': tensor(hooks=call(('collections', 'OrderedDict')) + b'(NNu'),
        'a parameter of a list': call(
            ('torch._utils', '_rebuild_parameter'), list_of(), True, NO_HOOKS
        ),
        'an array of objects': array('O8'),
        'an array of records': array('V8'),
        'an array of a text': array('f8,f8'),
        'an array that is too large': array(shape=(2**40,)),
        'an array of negative size': array(shape=(-1,)),
        'a dtype with fields': array(
            dtype_state=(3, '<', None, tuple_of('x'), dict_of(x=1), 8, 8, 0)
        ),
        'a dtype with an odd order': array(dtype_state=(3, 'x', None, None, None, -1, -1, 0)),
        'a number of another size': call(
            ('numpy.core.multiarray', 'scalar'),
            state(
                call(('numpy', 'dtype'), 'f8', False, True),
                tuple_of(3, '<', None, None, None, -1, -1, 0),
            ),
            encoded(b'x'),
        ),
        'a number of an object': call(
            ('numpy.core.multiarray', 'scalar'), call(('numpy', 'dtype'), 'O8', False, True), 1
        ),
        'a history of text': history(array('U2')),
        'a history of two lengths': history(array(data=bytes(16), shape=(2,))),
        'a history of an odd length': history(most=0),
        'a history of nothing': state(new(HISTORY), dict_of()),
        'a size of texts': call(('torch', 'Size'), tuple_of('x')),
        'a device that is not there': call(('torch', 'device'), 'nowhere'),
        'very many steps': b'N0' * 10 + b']' + b'NN\x86a' * 700000,
    }


def _archives():
    good = root(1)
    evil = root(call(('builtins', 'eval'), f'open({MARKER!r}, "w")'))
    whole = archive(good)
    end = whole.rindex(b'PK\5\6')
    start = struct.unpack('<L', whole[end + 16 : end + 20])[0]
    length = end - start
    program = archive(good, more=[('constants.pkl', b'x'), ('code/x.py', b'x')])
    yield 'a program', program
    yield 'a program in capitals', archive(good, more=[('CONSTANTS.PKL', b'x')])
    yield 'packed', archive(good, packed=zipfile.ZIP_DEFLATED)
    yield 'packed twice', archive(good + bytes(10**6), packed=zipfile.ZIP_BZIP2)
    yield 'two folders', archive(good, more=[('/other/data.pkl', evil)])
    yield 'no folder', archive(good, folder='')
    yield 'no pickle', archive(good).replace(b'data.pkl', b'date.pkl')
    yield 'a name twice', archive(good, more=[('data.pkl', evil)])
    yield 'a name in two cases', archive(good, more=[('DATA.PKL', evil)])
    yield 'a storage twice', archive(good, more=[('data/0', bytes(16))])
    yield 'something before it', b'PK\3\4' + bytes(60) + whole
    yield 'something behind it', whole + bytes(30)
    yield 'a comment', whole[:-2] + struct.pack('<H', 30) + bytes(30)
    hidden = whole[: end + 20] + struct.pack('<H', len(program)) + program
    yield 'an archive in the comment', hidden
    yield 'an archive behind an archive', program + whole
    yield 'an archive before an archive', whole + program
    # Its directory says 64 bits, and where the one for these is: one reader believes it, the
    # other looks before the pointer.
    wide = struct.pack('<4sQ2H2L4Q', b'PK\6\6', 44, 45, 45, 0, 0, 4, 4, length, start)
    zip64 = whole[:end] + wide + struct.pack('<4sLQL', b'PK\6\7', 0, end, 1)
    yield (
        'a pointer elsewhere',
        zip64.replace(struct.pack('<Q', end), struct.pack('<Q', 4)) + (whole[end:]),
    )
    for what, edit in (
        ('two numbers of entries', (10, '<H', 3)),
        ('no entries', (8, '<2H', 0, 0)),
        ('a directory elsewhere', (16, '<L', start - 1)),
        ('a larger directory', (12, '<L', length + 22)),
        ('a directory of 4 GB', (12, '<L', 2**32 - 1)),
        ('more than one disk', (4, '<H', 1)),
    ):
        yield what, _edited(whole, end + edit[0], *edit[1:])
    numbers = whole.index(b'archive/data/0', start) - 46
    for what, edit in (
        ('a size that lies', (24, '<L', 8)),
        ('both sizes lie', (20, '<2L', 10**6, 10**6)),
        ('too small sizes', (20, '<2L', 4, 4)),
        ('a size of 64 bits without one', (24, '<L', 2**32 - 1)),
        ('encrypted', (8, '<H', 1)),
        ('an unknown packing', (10, '<H', 99)),
        ('on another disk', (34, '<H', 1)),
        ('the header of another', (42, '<L', 0)),
        ('a header outside', (42, '<L', len(whole))),
        ('a longer name', (28, '<H', 1000)),
    ):
        yield what, _edited(whole, numbers + edit[0], *edit[1:])
    yield 'another name in its header', whole.replace(b'archive/data/0', b'archive/data/1', 1)
    yield 'half', whole[: len(whole) // 2]


def _edited(data, position, form, *values):
    new = struct.pack(form, *values)
    return data[:position] + new + data[position + len(new) :]


def _tars():
    kinds = dict(
        file=tarfile.REGTYPE,
        hardlink=tarfile.LNKTYPE,
        symlink=tarfile.SYMTYPE,
        character=tarfile.CHRTYPE,
        block=tarfile.BLKTYPE,
        folder=tarfile.DIRTYPE,
        pipe=tarfile.FIFOTYPE,
        contiguous=tarfile.CONTTYPE,
        sparse=tarfile.GNUTYPE_SPARSE,
    )
    for what, kind in kinds.items():
        for version in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode='w', format=version) as out:
                for member in ('storages', 'tensors', 'pickle'):
                    info = tarfile.TarInfo(member)
                    info.type, info.linkname = kind, '/etc/passwd'
                    out.addfile(info)
            yield f'tar: {what} {version}', file.getvalue()
    # Without the sign, as very old ones are.
    header = bytearray(file.getvalue()[:512])
    header[257:265] = bytes(8)
    header[148:156] = b' ' * 8
    header[148:156] = f'{sum(header):06o}\0 '.encode()
    yield 'tar: without a sign', bytes(header) + file.getvalue()[512:]


def _streams():
    good = root(1)
    yield 'legacy: keys that are not there', stream(good, keys=('0', '1'))
    yield 'legacy: a key twice', stream(good, keys=('0', '0'))
    yield 'legacy: no keys', stream(good, keys=())
    yield 'legacy: keys of another kind', stream(good, keys=(0,))
    yield 'legacy: another size', stream(good, count=5)
    yield 'legacy: a huge size', stream(good, count=2**60)
    yield 'legacy: cut off', stream(good)[:-8]
    yield 'legacy: no numbers', stream(good)[:-24]
    for what, view in (
        ('larger', tuple_of('1', 2, 4)),
        ('negative', tuple_of('1', -2, 2)),
        ('of itself', tuple_of('0', 0, 4)),
        ('no', list_of()),
    ):
        yield f'legacy: {what} part of a storage', stream(good, view=view)
    magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
    evil = b'\x80\x02' + call(('os', 'system'), f'touch {MARKER}') + b'.'
    yield 'legacy: code in its head', magic + evil + good
    yield 'legacy: code for its head', evil + good
    yield 'a pickle alone', evil
    yield 'a pickle of today', pickle.dumps(dict(a=1))


def hostile_files():
    """Contents of files that must be refused, by what is wrong with them."""
    files = {}
    for (module, attribute), arguments in _calls().items():
        evil = root(call((module, attribute), *arguments))
        files |= {f'{kind}: {module}.{attribute}': data for kind, data in both(evil).items()}
    for what, value in [*_states(), *_steps().items(), *_costs().items()]:
        files |= {f'{kind}: {what}': data for kind, data in both(root(value)).items()}
    return files | dict([*_archives(), *_tars(), *_streams()])
