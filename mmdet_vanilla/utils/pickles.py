"""Tells from the bytes of a checkpoint's pickle what it would build, before anything is built.

A pickle is a program. :func:`scan` follows it without calling or importing anything, allows what
checkpoints are made of, and bounds what it may cost. What passes is built by torch, which allows
little more itself; :data:`STAND_INS` is what foreign classes become there, and :func:`restore`
makes the real ones of them.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# What a file may cost beyond its bytes. A detector's checkpoint takes some 100,000 steps.
MOST_STEPS = 2_000_000
MOST_ITEMS = 5_000_000  # counted as often as they are referred to
MOST_LEVELS = 100

# Bytes of an element of torch's storages.
_ITEM_SIZES = dict(
    DoubleStorage=8,
    FloatStorage=4,
    HalfStorage=2,
    BFloat16Storage=2,
    LongStorage=8,
    IntStorage=4,
    ShortStorage=2,
    CharStorage=1,
    ByteStorage=1,
    BoolStorage=1,
    ComplexDoubleStorage=16,
    ComplexFloatStorage=8,
)
_STORAGES = {f'torch.{name}': size for name, size in _ITEM_SIZES.items()}
_STORAGES['torch.storage.UntypedStorage'] = 1
_DTYPES = {str(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
_ARRAY_DTYPE = re.compile(r'[<>=|]?[biufcSU]\d{1,9}')


class ForbiddenError(Exception):
    """Names what a pickle asks for and does not get."""


class PickleError(Exception):
    """A pickle that is damaged, or made to cost more than its bytes."""


class _DType:
    """Stands for ``numpy.dtype``."""

    __slots__ = ('code', 'order')

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self.code, self.order = code, '='

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def restored(self) -> np.dtype:
        if not (isinstance(self.code, str) and _ARRAY_DTYPE.fullmatch(self.code)):
            raise PickleError(f'a numpy array of {self.code!r}, expected numbers or text')
        return np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """Stands for a numpy array."""

    __slots__ = ('shape', 'dtype', 'fortran', 'data')

    def __init__(self, *empty: Any) -> None:
        self.data = None

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def restored(self) -> np.ndarray:
        if not isinstance(self.data, bytes):
            raise PickleError('a numpy array of objects, expected numbers or text')
        flat = np.frombuffer(self.data, self.dtype.restored())
        return flat.reshape(self.shape, order='F' if self.fortran else 'C').copy('K')


class _Attributes:
    """Stands for an object of which the attributes are kept."""

    __slots__ = ('values',)

    def __setstate__(self, state: dict) -> None:
        self.values = dict(state)


class _Namespace(_Attributes):
    """Stands for ``argparse.Namespace``."""

    __slots__ = ()

    def restored(self) -> argparse.Namespace:
        return argparse.Namespace(**self.values)


class _History(_Attributes):
    """Stands for mmengine's ``HistoryBuffer``."""

    __slots__ = ()

    def restored(self) -> HistoryBuffer:
        log, count = (self.values[f'_{name}_history'] for name in ('log', 'count'))
        most = self.values.get('max_length', 1000000)
        arrays = (isinstance(a, np.ndarray) and a.ndim == 1 for a in (log, count))
        numbers = all(arrays) and log.dtype.kind in 'biuf' and count.dtype.kind in 'biuf'
        if not numbers or len(log) != len(count) or type(most) is not int or most < 1:
            raise PickleError('a HistoryBuffer without its two equally long lists of numbers')
        return HistoryBuffer(log, count, most)


def _scalar(dtype: _DType, data: bytes) -> np.generic:
    """Stands for numpy's function of the same name."""
    dtype = dtype.restored()
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise PickleError(f'a numpy number that is no {dtype}')
    return np.frombuffer(data, dtype)[0]


def _plain_dict(factory: None = None) -> dict:
    """Stands for ``collections.defaultdict``."""
    return {}


def _plain_list(items: Sequence = (), maxlen: int | None = None) -> list:
    """Stands for ``collections.deque``."""
    return list(items)


def _method_name(owner: type, name: str) -> str:
    """Stands for ``getattr``, by which a HistoryBuffer names its statistics."""
    return name


# What a pickle gets where it asks for these. ``None`` only names an argument.
STAND_INS: dict[str, Any] = {
    'argparse.Namespace': _Namespace,
    'builtins.bytes': bytes,  # empty ones are written so
    'builtins.complex': complex,
    'builtins.frozenset': frozenset,
    'builtins.getattr': _method_name,
    'builtins.slice': slice,
    'collections.defaultdict': _plain_dict,
    'collections.deque': _plain_list,
    'mmengine.config.config.ConfigDict': dict,
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'numpy.core.multiarray._reconstruct': _Array,
    'numpy._core.multiarray._reconstruct': _Array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    'numpy.dtype': _DType,
    'numpy.ndarray': None,
    **{f'builtins.{name}': None for name in ('dict', 'float', 'int', 'list', 'str', 'tuple')},
}
# What torch's own reader has under these names, for one that has nothing of its own.
_TORCHS: dict[str, Any] = {
    '_codecs.encode': lambda text, encoding: text.encode(encoding),
    'builtins.bytearray': bytearray,
    'builtins.set': set,
    'collections.Counter': Counter,
    'collections.OrderedDict': OrderedDict,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch.serialization._get_layout': torch.serialization._get_layout,
    'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    **{name: getattr(torch, name.split('.')[1]) for name in _DTYPES},
}
_NAMES = {*STAND_INS, *_TORCHS, *_STORAGES}


class _Node:
    """Something that the pickle would build: a container, a call, a name or a storage.

    Attributes:
        kind: ``'tuple'``, ``'list'``, ``'dict'`` (keys and values in turn), ``'call'``, ``'name'``
            or ``'storage'``.
        name: Of what is called or named; ``''`` for containers.
        items: What it holds, numbers and texts as they are.
        info: Number of elements of a storage, bytes of a tensor.
    """

    __slots__ = ('kind', 'name', 'items', 'info')

    def __init__(self, kind: str, items: list | None = None, name: str = '', info: int = 0):
        self.kind, self.name, self.items, self.info = kind, name, items or [], info


def _is(value: Any, kind: str, name: str | None = None) -> bool:
    named = name is None or getattr(value, 'name', None) == name
    return isinstance(value, _Node) and value.kind == kind and named


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _counts(value: Any) -> bool:
    return _is(value, 'tuple') and all(map(_count, value.items))


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise PickleError(f'{what} is not as torch.save writes it')


def _check_key(key: Any) -> None:
    """Keys of which the hashes take no time and do not fall together."""
    if isinstance(key, _Node):
        raise PickleError(f'a {key.kind} {key.name} as a key, expected a text or a number')
    if isinstance(key, int) and abs(key) >= 2**61 - 1:
        raise PickleError(f'a key of {key.bit_length()} bits')


class _Scan:
    """Follows one pickle. See :func:`scan`."""

    def __init__(self, file: BinaryIO, size: int, storages: dict[str, tuple]) -> None:
        self.file = file
        self.most_bytes = 16 * size + 2**20
        self.storages = storages
        self.tensor_bytes = 0
        self.stack: list = []
        self.marks: list[list] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            step = self._STEPS.get(code)
            if step is None:
                known = pickletools.code2op.get(code.decode('latin-1'))
                raise PickleError(f'{known.name if known else code!r}, which torch.save never uses')
            step(self)
        raise PickleError(f'more than {MOST_STEPS} steps')

    def read(self, number: int) -> bytes:
        data = self.file.read(min(number, self.most_bytes))
        if len(data) < number:
            raise PickleError('cut off')
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def line(self) -> str:
        line = self.file.readline(200)
        _require(line.endswith(b'\n'), 'a name')
        return line[:-1].decode()

    # Steps.

    def proto(self) -> None:
        number = self.number('<B')
        if number != 2:
            raise PickleError(f'pickle protocol {number}, which torch.save never uses')

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def tuple_of(self, number: int) -> None:
        items = self.stack[-number:]
        _require(len(items) == number, 'a tuple')
        self.stack[-number:] = [_Node('tuple', items)]

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def name(self) -> None:
        module, name = self.line(), self.line()
        module = 'builtins' if module == '__builtin__' else module
        full = f'{module}.{name}'
        # "a.b" of "c" is another name than "b.c" of "a".
        if full not in _NAMES or '.' in name:
            raise ForbiddenError(full)
        self.push(_Node('name', name=full))

    def append(self, items: list) -> None:
        target = self.stack[-1]
        deque = _is(target, 'call', 'collections.deque')
        _require(_is(target, 'list') or deque, 'a list')
        target.items += items

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        _require(len(items) % 2 == 0, 'a dict')
        _require(_is(target, 'dict') or _is(target, 'call') and target.name in _DICTS, 'a dict')
        for key in items[::2]:
            _check_key(key)
        target.items += items

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def new_object(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        _require(_is(cls, 'name') and cls.name in _OBJECTS, 'an object')
        _require(_is(arguments, 'tuple') and not arguments.items, cls.name)
        self.push(_Node('call', name=cls.name))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        _require(_is(function, 'name') and _is(arguments, 'tuple'), 'a call')
        check = _CALLS.get(function.name)
        _require(check is not None, f'a call of {function.name}')
        self.push(check(self, function.name, *arguments.items))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not _is(target, 'call') or target.name not in _STATES:
            raise ForbiddenError(f'a state for {getattr(target, "name", "") or "data"}')
        _STATES[target.name](target.name, state)
        target.items.append(state)

    def storage(self) -> None:
        pid = self.stack.pop()
        _require(_is(pid, 'tuple') and len(pid.items) in (5, 6), 'a storage')
        word, cls, key, location, number, *view = pid.items
        if word != 'storage':
            raise ForbiddenError(f'a persistent {word!r}')
        _require(_is(cls, 'name') and cls.name in _STORAGES and _count(number), 'a storage')
        _require(isinstance(key, str) and isinstance(location, str), 'a storage')
        self._know(key, (number * _STORAGES[cls.name], cls.name))
        if view and view[0] is not None:
            _require(_is(view[0], 'tuple') and len(view[0].items) == 3, 'a part of a storage')
            part, offset, length = view[0].items
            _require(isinstance(part, str) and _count(offset) and _count(length), 'a storage')
            _require(offset + length <= number, 'a part of a storage')
            self._know(part, (0, key, offset, length))
            number = length
        self.push(_Node('storage', name=cls.name, info=number))

    def _know(self, key: str, what: tuple) -> None:
        _require(self.storages.setdefault(key, what) == what, f'storage {key!r}')

    _STEPS: dict[bytes, Callable[[_Scan], None]] = {
        pickle.PROTO: proto,
        pickle.MARK: mark,
        pickle.GLOBAL: name,
        pickle.REDUCE: call,
        pickle.NEWOBJ: new_object,
        pickle.BUILD: build,
        pickle.BINPERSID: storage,
        pickle.APPEND: lambda self: self.append([self.stack.pop()]),
        pickle.APPENDS: lambda self: self.append(self.pop_mark()),
        pickle.SETITEM: set_item,
        pickle.SETITEMS: lambda self: self.set_items(self.pop_mark()),
        pickle.TUPLE: lambda self: self.push(_Node('tuple', self.pop_mark())),
        pickle.TUPLE1: lambda self: self.tuple_of(1),
        pickle.TUPLE2: lambda self: self.tuple_of(2),
        pickle.TUPLE3: lambda self: self.tuple_of(3),
        pickle.EMPTY_TUPLE: lambda self: self.push(_Node('tuple')),
        pickle.EMPTY_LIST: lambda self: self.push(_Node('list')),
        pickle.EMPTY_DICT: lambda self: self.push(_Node('dict')),
        pickle.NONE: lambda self: self.push(None),
        pickle.NEWTRUE: lambda self: self.push(True),
        pickle.NEWFALSE: lambda self: self.push(False),
        pickle.BININT: lambda self: self.push(self.number('<i')),
        pickle.BININT1: lambda self: self.push(self.number('<B')),
        pickle.BININT2: lambda self: self.push(self.number('<H')),
        pickle.BINFLOAT: lambda self: self.push(self.number('>d')),
        pickle.LONG1: lambda self: self.push(pickle.decode_long(self.read(self.number('<B')))),
        pickle.BINUNICODE: lambda self: self.push(
            str(self.read(self.number('<I')), 'utf-8', 'surrogatepass')
        ),
        pickle.SHORT_BINSTRING: lambda self: self.push(self.read(self.number('<B')).decode()),
        pickle.BINPUT: lambda self: self.put('<B'),
        pickle.LONG_BINPUT: lambda self: self.put('<I'),
        pickle.BINGET: lambda self: self.push(self.memo[self.number('<B')]),
        pickle.LONG_BINGET: lambda self: self.push(self.memo[self.number('<I')]),
    }


STEPS = frozenset(_Scan._STEPS) | {pickle.STOP}
_DICTS = ('collections.OrderedDict', 'collections.Counter', 'collections.defaultdict')
_OBJECTS = ('argparse.Namespace', 'mmengine.logging.history_buffer.HistoryBuffer')


# Calls: each checks its arguments, and returns what it would make.


def _call(name: str, *items: Any) -> _Node:
    return _Node('call', [*items], name)


def _tensor(
    scan: _Scan,
    name: str,
    storage: _Node,
    offset: int,
    shape: _Node,
    stride: _Node,
    requires_grad: bool = False,
    hooks: _Node | None = None,
    *metadata: Any,
) -> _Node:
    right = _is(storage, 'storage') and _count(offset) and _counts(shape) and _counts(stride)
    right = right and len(shape.items) == len(stride.items) <= 64
    right = right and type(requires_grad) is bool and all(entry is None for entry in metadata)
    _require(right and (hooks is None or _no_hooks(hooks)), 'a tensor')
    elements = 1
    for side in shape.items:
        elements *= side
    if elements:
        last = offset + sum((n - 1) * step for n, step in zip(shape.items, stride.items))
        _require(last < storage.info, 'a tensor that is larger than its storage')
    size = elements * _STORAGES[storage.name]
    scan.tensor_bytes += size
    # Weights may be shared and rows be repeated, within reason.
    if scan.tensor_bytes > scan.most_bytes:
        raise PickleError('tensors that are far larger than the file')
    return _call(name)


def _no_hooks(hooks: Any) -> bool:
    return _is(hooks, 'call', 'collections.OrderedDict') and not hooks.items


def _parameter(
    scan: _Scan, name: str, tensor: _Node, requires_grad: bool, hooks: _Node, *state: Any
) -> _Node:
    right = _is(tensor, 'call') and tensor.name.startswith('torch._utils._rebuild_tensor')
    right = right and type(requires_grad) is bool and _no_hooks(hooks) and not state
    _require(right, 'a parameter')
    return _call(name)


def _encoded(scan: _Scan, name: str, text: str, encoding: str) -> _Node:
    _require(isinstance(text, str) and encoding in ('latin1', 'latin-1'), 'a text')
    return _call(name)


def _is_bytes(value: Any) -> bool:
    return _is(value, 'call', '_codecs.encode') or _is(value, 'call', 'builtins.bytes')


def _set(scan: _Scan, name: str, items: _Node | None = None) -> _Node:
    _require(items is None or _is(items, 'list') or _is(items, 'tuple'), name)
    for item in items.items if items else ():
        _check_key(item)
    return _call(name, items)


def _pairs(scan: _Scan, name: str, items: _Node | None = None) -> _Node:
    _require(items is None or _is(items, 'list'), name)
    for pair in items.items if items else ():
        _require(isinstance(pair, _Node) and pair.kind in ('list', 'tuple'), name)
        _require(len(pair.items) == 2, name)
        _check_key(pair.items[0])
    return _call(name, *([items] if items else []))


def _of_dict(scan: _Scan, name: str, content: _Node | None = None) -> _Node:
    _require(content is None or _is(content, 'dict'), name)
    return _call(name, *(content.items if content else []))


def _default_dict(scan: _Scan, name: str, factory: _Node | None = None) -> _Node:
    named = _is(factory, 'name') and STAND_INS.get(factory.name, name) is None
    _require(factory is None or named, name)
    return _call(name)


def _deque(scan: _Scan, name: str, items: _Node | None = None, most: int | None = None) -> _Node:
    _require(items is None or _is(items, 'list') or _is(items, 'tuple'), name)
    _require(most is None or _count(most), name)
    return _call(name, *(items.items if items else []))


def _method(scan: _Scan, name: str, owner: _Node, attribute: str) -> _Node:
    history = _is(owner, 'name', 'mmengine.logging.history_buffer.HistoryBuffer')
    if not history or not isinstance(attribute, str) or attribute.startswith('_'):
        raise ForbiddenError(f'getattr({getattr(owner, "name", owner)!r}, {attribute!r})')
    return _call(name)


def _array(scan: _Scan, name: str, cls: _Node, shape: _Node, code: Any) -> _Node:
    _require(_is(cls, 'name', 'numpy.ndarray') and _counts(shape) and _is_bytes(code), name)
    return _call(name)


def _dtype(scan: _Scan, name: str, code: str, *flags: Any) -> _Node:
    _require(isinstance(code, str) and len(flags) <= 2, name)
    if not _ARRAY_DTYPE.fullmatch(code):
        raise ForbiddenError(f'a numpy array of {code!r}')
    _require(all(flag in (0, 1) for flag in flags), name)
    return _call(name)


def _number(scan: _Scan, name: str, dtype: _Node, data: Any) -> _Node:
    _require(_is(dtype, 'call', 'numpy.dtype') and _is_bytes(data), name)
    return _call(name)


def _plain(*kinds: type) -> Callable[..., _Node]:
    def check(scan: _Scan, name: str, *values: Any) -> _Node:
        _require(all(type(value) in kinds for value in values) and len(values) <= 3, name)
        return _call(name)

    return check


def _size(scan: _Scan, name: str, sides: _Node) -> _Node:
    _require(_counts(sides), name)
    return _call(name, sides)


def _bytearray(scan: _Scan, name: str, *data: Any) -> _Node:
    _require(not data or len(data) == 1 and _is_bytes(data[0]), name)
    return _call(name)


_CALLS: dict[str, Callable[..., _Node]] = {
    '_codecs.encode': _encoded,
    'builtins.bytearray': _bytearray,
    'builtins.bytes': lambda scan, name: _call(name),
    'builtins.complex': _plain(float),
    'builtins.frozenset': _set,
    'builtins.getattr': _method,
    'builtins.set': _set,
    'builtins.slice': _plain(int, type(None)),
    'collections.Counter': _of_dict,
    'collections.OrderedDict': _pairs,
    'collections.defaultdict': _default_dict,
    'collections.deque': _deque,
    'mmengine.config.config.ConfigDict': _of_dict,
    'numpy.core.multiarray._reconstruct': _array,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy.core.multiarray.scalar': _number,
    'numpy._core.multiarray.scalar': _number,
    'numpy.dtype': _dtype,
    'torch.Size': _size,
    'torch.device': _plain(str, int),
    'torch.serialization._get_layout': _plain(str),
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
}


# States: what BUILD may set, and on what.


def _attributes_state(name: str, state: Any) -> None:
    _require(_is(state, 'dict'), name)
    for key in state.items[::2]:
        _require(isinstance(key, str) and not key.startswith('__'), f'an attribute of {name}')


def _ordered_state(name: str, state: Any) -> None:
    # The versions of a state dict's layers.
    _require(_is(state, 'dict') and all(key == '_metadata' for key in state.items[::2]), name)


def _array_state(name: str, state: Any) -> None:
    _require(_is(state, 'tuple') and len(state.items) == 5, name)
    _, shape, dtype, fortran, data = state.items
    _require(_counts(shape) and _is(dtype, 'call', 'numpy.dtype') and _is_bytes(data), name)


def _dtype_state(name: str, state: Any) -> None:
    _require(_is(state, 'tuple') and len(state.items) == 8, name)
    _require(state.items[1] in ('<', '>', '|', '='), name)
    _require(all(entry is None or type(entry) is int for entry in state.items[2:]), name)


_STATES: dict[str, Callable[[str, Any], None]] = {
    'argparse.Namespace': _attributes_state,
    'mmengine.logging.history_buffer.HistoryBuffer': _attributes_state,
    'collections.OrderedDict': _ordered_state,
    'numpy.core.multiarray._reconstruct': _array_state,
    'numpy._core.multiarray._reconstruct': _array_state,
    'numpy.dtype': _dtype_state,
}


def _measure(value: Any, level: int, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Number of items, each as often as it is referred to, and of levels."""
    if not isinstance(value, _Node):
        return 1, 1
    if value.kind == 'storage' or value.kind == 'name' and value.name not in _DTYPES:
        raise ForbiddenError(value.name)
    if id(value) in known:
        found = known[id(value)]
        if found is None:
            raise PickleError('something that contains itself')
        return found
    known[id(value)] = None
    items, levels = 1, 0
    for item in value.items if level < MOST_LEVELS else ():
        more, deep = _measure(item, level + 1, known)
        items, levels = items + more, max(levels, deep)
    if items > MOST_ITEMS or level + levels >= MOST_LEVELS:
        raise PickleError(f'more than {MOST_ITEMS} items or {MOST_LEVELS} levels')
    known[id(value)] = items, levels + 1
    return items, levels + 1


def scan(file: BinaryIO, size: int, storages: dict[str, tuple]) -> Any:
    """Follows a pickle and checks that it builds data alone, and within bounds.

    Args:
        file: At the beginning of the pickle; at its end afterwards.
        size: Bytes of the whole checkpoint.
        storages: Filled with what the pickle refers to: by key, the number of bytes and the class.
            A part of another storage has 0 bytes of its own.

    Returns:
        What the pickle builds, for its kind alone: numbers and texts as they are.

    Raises:
        ForbiddenError: If it asks for anything that is not on the list.
        PickleError: If it is damaged or would cost far more than its bytes.
    """
    try:
        result = _Scan(file, size, storages).run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise PickleError(f'{type(error).__name__}: {error}') from None
    _measure(result, 0, {})
    return result


def texts_of(value: Any) -> list[str] | None:
    """The texts of a list that :func:`scan` has found, ``None`` if it is none."""
    texts = value.items if _is(value, 'list') else [None]
    return texts if all(isinstance(text, str) for text in texts) else None


def restore(value: Any) -> Any:
    """Exchanges the stand-ins in what was read; containers are changed in place where they can be.

    Args:
        value: What was read; :func:`scan` has seen that it ends.

    Returns:
        The same with numpy's, mmengine's and argparse's own objects.

    Raises:
        PickleError: If a stand-in does not hold what its original would.
    """
    return _restore(value, {})


def _restore(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    if id(value) in done:
        return done[id(value)][1]
    result = value
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _restore(item, done)
        for name, item in vars(value).items() if hasattr(value, '__dict__') else ():
            vars(value)[name] = _restore(item, done)
    elif type(value) is list:
        value[:] = [_restore(item, done) for item in value]
    elif type(value) is tuple:
        items = tuple(_restore(item, done) for item in value)
        result = items if any(a is not b for a, b in zip(items, value)) else value
    elif isinstance(value, _Attributes):
        value.values = _restore(value.values, done)
        result = value.restored()
    elif isinstance(value, (_Array, _DType)):
        result = value.restored()
    done[id(value)] = value, result  # kept, so that no other object gets its id
    return result


class DataUnpickler(pickle._Unpickler):
    """Builds what :func:`scan` has let pass, where torch cannot be told names (before 2.6).

    It knows the same names and steps, and sets a state on instances of the stand-ins and on the
    versions of an OrderedDict alone: never on a class, never by ``setattr``.
    """

    dispatch = {
        code: step
        for code, step in pickle._Unpickler.dispatch.items()
        if bytes([code]) in STEPS and bytes([code]) != pickle.BUILD
    }

    def find_class(self, module: str, name: str) -> Any:
        module = 'builtins' if module == '__builtin__' else module
        full = f'{module}.{name}'
        if full in STAND_INS:
            return STAND_INS[full]
        if full not in _TORCHS:
            raise ForbiddenError(full)
        return _TORCHS[full]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) in (_Array, _DType, _History, _Namespace):
            target.__setstate__(state)
        elif type(target) is OrderedDict and set(state) <= {'_metadata'}:
            vars(target).update(state)
        else:
            raise ForbiddenError(f'a state for {target!r}')

    dispatch[pickle.BUILD[0]] = load_build
