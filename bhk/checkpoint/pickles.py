"""Reading a pickle without running anything in it.

A pickle is a program for a small machine. It names functions and classes, which Python would import, and says what to call
them with. A checkpoint may come from anyone, so this reader imports nothing and calls nothing that a pickle names:

- A name is only a text (`Global`). What a pickle would make of it is a `StandIn`, which keeps the name and the parts.
- The few names of which tensors and dictionaries are made stand for functions in this module (`_MAKERS`).
- Attributes are never set, keys and members of sets are never hashed unless they are plain, and lengths are checked against
  the file before memory is taken.

So training state beside the weights does no harm, whatever its classes, and a list of harmless ones is not needed. For the
same reason a pickle that calls the system would do no harm either. It is refused all the same, by name: it was made to attack
whoever opens it, and its weights deserve no trust (`_ACTING`). That list need not be complete.

Source of the opcodes: `pickle` and `pickletools` of Python.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor


class RefusedPickleError(Exception):
    """A pickle names what it must not; `name` says what."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


@dataclass(frozen=True)
class Global:
    """A function or class that a pickle names, such as "argparse.Namespace"."""

    name: str


class StandIn(dict[Any, Any]):
    """What stands for an object that is not made: the items that it would hold, if it is a mapping.

    Attributes:
        kind: the function or class that would make it.
        parts: what it would be made of: arguments, state, members.
    """

    def __init__(self, kind: str, parts: Sequence[object] = ()) -> None:
        super().__init__()
        self.kind, self.parts = kind, list(parts)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __str__(self) -> str:
        return self.kind


class NoTensor(StandIn):
    """What stands for a tensor without plain dense data.

    Attributes:
        fault: why it has none, as "is sparse".
    """

    def __init__(self, fault: str, parts: Sequence[object] = ()) -> None:
        super().__init__("torch.Tensor", parts)
        self.fault = fault


@dataclass(frozen=True)
class Storage:
    """The memory of tensors, and the dtype of those that do not name their own; without data on the meta device."""

    data: torch.UntypedStorage | None
    dtype: torch.dtype


_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
# A storage's class names its dtype, as "torch.HalfStorage" does.
STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.QInt8Storage": torch.qint8,
    "torch.QUInt8Storage": torch.quint8,
    "torch.QInt32Storage": torch.qint32,
    "torch.QUInt4x2Storage": torch.quint4x2,
    "torch.QUInt2x4Storage": torch.quint2x4,
    "torch.UntypedStorage": torch.uint8,
    "torch.storage.UntypedStorage": torch.uint8,
}


def _tensor(storage: Storage, offset: int, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> object:
    if storage.data is None:
        return NoTensor("has no data (device meta)")
    span = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if 0 not in size else 0
    if min((offset, *size, *stride)) < 0 or (offset + span) * dtype.itemsize > storage.data.nbytes():
        raise EOFError("a tensor goes beyond its storage")  # torch would enlarge the storage
    return torch.empty(0, dtype=dtype).set_(storage.data, offset, tuple(size), tuple(stride))


def _tensor_v2(
    storage: Storage,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    _gradient: object = None,
    _hooks: object = None,
    bits: object = None,
) -> object:
    return _with_bits(_tensor(storage, offset, size, stride, storage.dtype), bits)


def _tensor_v3(
    storage: Storage,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    _gradient: object,
    _hooks: object,
    dtype: torch.dtype,
    bits: object = None,
) -> object:
    return _with_bits(_tensor(storage, offset, size, stride, dtype), bits)


def _with_bits(tensor: object, bits: object) -> object:
    """Return a tensor that is conjugated or negated if `bits`, a dictionary, says so."""
    if isinstance(tensor, Tensor) and isinstance(bits, dict):
        if tensor.nbytes > tensor.untyped_storage().nbytes():  # what follows would make all of it
            raise pickle.UnpicklingError("a conjugated or negated tensor that repeats its storage")
        tensor = tensor.conj() if bits.get("conj") else tensor
        tensor = -tensor if bits.get("neg") else tensor
    return tensor


def _first(data: object, *_: object) -> object:
    return data


def _of_type(function: object, kind: Global, arguments: Sequence[object], *_: object) -> object:
    """Return the plain tensor below a subclass of torch.Tensor, if there is one."""
    if isinstance(function, Global) and function.name in (_V2, _V3):
        return _MAKERS[function.name](*arguments)
    return _wrapper(kind, *arguments)


def _wrapper(kind: Global, *parts: object) -> NoTensor:
    return NoTensor(f"is a {kind.name}, which has no data of its own", parts)


def _mapping(*arguments: object) -> dict[Any, Any]:
    """Return the dictionary that OrderedDict, defaultdict or Counter would be."""
    found: dict[Any, Any] = {}
    for content in arguments:
        pairs = content.items() if isinstance(content, dict) else content
        if isinstance(pairs, Global) or pairs is None:  # what makes the missing values of a defaultdict
            continue
        for key, value in pairs:  # type: ignore[attr-defined]
            found[_plain_key(key)] = value
    return found


def _encoded(text: str, encoding: str = "latin1") -> object:
    """Return bytes, which protocol 2 writes as text."""
    return text.encode("latin1") if encoding == "latin1" else StandIn("_codecs.encode", [text, encoding])


def _without(fault: str) -> Callable[..., NoTensor]:
    return lambda *parts: NoTensor(fault, parts)


_V2, _V3 = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"
_LAZY = "has no shape yet, because its lazy module has not run"
_MAKERS: dict[str, Callable[..., object]] = {
    **dict.fromkeys(("collections.OrderedDict", "collections.defaultdict", "collections.Counter"), _mapping),
    "_codecs.encode": _encoded,
    "torch._utils._rebuild_tensor": _tensor_v2,
    _V2: _tensor_v2,
    _V3: _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_sparse_tensor": _without("is sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _without("is sparse"),
    "torch._utils._rebuild_nested_tensor": _without("is nested"),
    "torch._utils._rebuild_qtensor": _without("is quantized"),
    "torch._utils._rebuild_meta_tensor_no_storage": _without("has no data (device meta)"),
    "torch._utils._rebuild_device_tensor_from_numpy": _without("is of a device that stores it as a NumPy array"),
    "torch.nn.parameter.UninitializedParameter": _without(_LAZY),
    "torch.nn.parameter.UninitializedBuffer": _without(_LAZY),
}
# What no training state is made of, but attacks are.
_ACTING = {
    *(
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "pty",
        "ctypes",
        "webbrowser",
    ),
    *("code", "codeop", "commands", "imp", "pickle", "marshal", "asyncio", "multiprocessing", "signal", "timeit"),
}
_ACTING_BUILTINS = {
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "__import__",
    "input",
    "breakpoint",
    "globals",
    "vars",
}
_BUILTINS = ("builtins", "__builtin__")
MAX_KEY_DEPTH = 32  # tuples in a key; those of attacks hold each other, so that their hash would take for ever
# How many times as much as a pickle has bytes, and how much in any case, its calls may copy: parts that it made before may be
# named again in a few bytes.
COPIES, MIN_COPIED = 16, 1 << 20
_SIZED = (str, bytes, bytearray, dict, list, tuple)
MAX_LINE = 1 << 20  # bytes of a number or a name that is written as text


def load(
    file: BinaryIO,
    size: int,
    storage_of: Callable[[tuple[Any, ...]], Storage] | None = None,
    from_bytes: Callable[[bytes], object] | None = None,
) -> object:
    """Return what the next pickle in `file` holds, which ends at most at `size` bytes.

    Args:
        file: open at the start of the pickle; left at its end.
        size: of the file.
        storage_of: returns the storage of a description that torch.save writes; None if none may occur.
        from_bytes: returns a storage from the file of torch.save that holds it, as `pickle` itself writes storages; None if
            none may occur.

    Raises:
        RefusedPickleError: the pickle calls the system.
        Exception: of any kind, if the pickle is damaged.
    """
    makers = dict(_MAKERS) if from_bytes is None else {**_MAKERS, "torch.storage._load_from_bytes": from_bytes}
    return _Reader(_Bounded(file, size), size, storage_of, makers).load()


class _Bounded:
    """A file whose reads never go beyond its end, so that a wrong length takes no memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def readline(self) -> bytes:
        return self._file.readline(MAX_LINE)

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise EOFError("the pickle ends too early")
        return self._file.read(count)


class _Reader(pickle._Unpickler):
    """The machine of `pickle` without the instructions that import, call, or set attributes."""

    stack: list[Any]
    append: Callable[[object], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        file: _Bounded,
        size: int,
        storage_of: Callable[[tuple[Any, ...]], Storage] | None,
        makers: Mapping[str, Callable[..., object]],
    ) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self._storage_of, self._makers = storage_of, makers
        self._left = COPIES * size + MIN_COPIED

    def find_class(self, module: str, name: str) -> object:
        full = f"{module}.{name}"
        acts = module.partition(".")[0] in _ACTING or (
            module in _BUILTINS and name.partition(".")[0] in _ACTING_BUILTINS
        )
        if acts:
            raise RefusedPickleError(full)
        return _DTYPES.get(full) or Global(full)

    def persistent_load(self, pid: object) -> object:
        if not isinstance(pid, tuple) or self._storage_of is None:
            raise pickle.UnpicklingError("a storage without description")
        # Old files keep the source of a module's class beside it.
        return pid[1] if pid[0] == "module" else self._storage_of(pid)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"extension {code}")

    def _instantiate(self, kind: object, arguments: Sequence[object]) -> None:
        self.append(self._made(kind, arguments))

    def _made(self, kind: object, arguments: object) -> object:
        """Return what a pickle would make of the function or class `kind`, if it is one of the few that are known."""
        if not isinstance(arguments, tuple | list):
            raise pickle.UnpicklingError("arguments that are no tuple")
        self._left -= len(arguments) + sum(len(part) for part in arguments if isinstance(part, _SIZED))
        if self._left < 0:
            raise pickle.UnpicklingError("the same parts again and again")
        maker = self._makers.get(kind.name) if isinstance(kind, Global) else None
        return StandIn(_kind(kind), arguments) if maker is None else maker(*arguments)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        kind = self.stack[-1]
        self.stack[-1] = self._made(kind, arguments) if not keywords else StandIn(_kind(kind), [arguments, keywords])

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].parts.append(state)

    def load_append(self) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        _set_items(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        _set_items(self.stack[-1], items)

    def load_empty_set(self) -> None:
        self.append([])

    def load_frozenset(self) -> None:
        self.append(self.pop_mark())

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(self.read(length))

    for _opcode, _load in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_reduce),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build),
        (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends),
        (pickle.ADDITEMS, load_appends),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.EMPTY_SET, load_empty_set),
        (pickle.FROZENSET, load_frozenset),
        (pickle.BYTEARRAY8, load_bytearray8),
    ):
        dispatch[_opcode[0]] = _load


def _kind(kind: object) -> str:
    return kind.name if isinstance(kind, Global) else str(kind) if isinstance(kind, StandIn) else type(kind).__name__


def _extend(target: object, values: Sequence[object]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, StandIn):
        target.parts.extend(values)
    else:
        raise pickle.UnpicklingError(f"members of a {type(target).__name__}")


def _set_items(target: object, items: Sequence[object]) -> None:
    """Set items, given as keys and values in turn."""
    if not isinstance(target, dict):
        raise pickle.UnpicklingError(f"items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_plain_key(key)] = value


def _plain_key(key: object) -> object:
    """Return a key that is quick to hash. A tuple of tuples may take for ever, and an object has no hash of its own."""
    plain = isinstance(key, str | int | float | bytes | StandIn) or key is None
    depth, inner = 0, key
    while isinstance(inner, tuple) and inner:
        depth, inner = depth + 1, inner[-1]
        if depth > MAX_KEY_DEPTH:
            raise pickle.UnpicklingError(f"a key of tuples within tuples, more than {MAX_KEY_DEPTH} deep")
    return key if plain else StandIn(f"a {_kind(key)}", [key])
