#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns a PyTorch checkpoint (.pth, .pt) of torchvision or MMDetection into a safetensors file that gradlibra loads by name.

Plain Python 3.8 or newer is enough; not even PyTorch is needed. Nothing in the checkpoint is executed: of its pickled objects only
tensors and plain containers are built, everything else (logs, configurations of other programs) is left out.

  python3 scripts/pth_to_safetensors.py resnet50-0676ba61.pth resnet50.safetensors
"""
import argparse
import collections
import itertools
import json
import os
import pickle
import struct
import sys
import zipfile

# The format sorts tensors by type, last of this list first, then by name.
DTYPES = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64"]
STORAGES = {"BoolStorage": ("BOOL", 1), "ByteStorage": ("U8", 1), "CharStorage": ("I8", 1), "ShortStorage": ("I16", 2),
            "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2), "IntStorage": ("I32", 4), "FloatStorage": ("F32", 4),
            "DoubleStorage": ("F64", 8), "LongStorage": ("I64", 8)}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the pickle that a checkpoint of PyTorch before 1.6 begins with


class BadCheckpoint(Exception):
    pass


class Storage:
    """A one-dimensional array that tensors are views of; `data` may arrive after the tensors."""

    def __init__(self, dtype, item, data=None):
        self.dtype, self.item, self.data = dtype, item, data


class Tensor:
    def __init__(self, storage, offset, shape, stride, *unused):
        if not isinstance(storage, Storage):
            raise BadCheckpoint("a tensor without storage")
        self.storage, self.offset, self.shape, self.stride = storage, offset, list(shape), list(stride)
        self.dtype, self.item = storage.dtype, storage.item

    def count(self):
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    def bytes(self):
        """The values in row-major order."""
        if self.count() == 0:
            return b""
        last = self.offset + sum((extent - 1) * stride for extent, stride in zip(self.shape, self.stride))
        if self.storage.data is None or self.offset < 0 or min(self.stride, default=0) < 0 or (last + 1) * self.item > len(self.storage.data):
            raise BadCheckpoint("a tensor that reaches outside its data")
        data, run, outer = memoryview(self.storage.data), 1, len(self.shape)
        while outer > 0 and (self.shape[outer - 1] == 1 or self.stride[outer - 1] == run):  # these dimensions lie in one piece
            outer -= 1
            run *= self.shape[outer]
        starts = (self.offset + sum(i * s for i, s in zip(index, self.stride)) for index in itertools.product(*map(range, self.shape[:outer])))
        return b"".join(data[start * self.item:(start + run) * self.item] for start in starts)


class StandIn(dict):
    """For objects of other programs: whatever the pickle does with it, nothing comes of it."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    __hash__ = object.__hash__

    def __call__(self, *args, **kwargs):
        return StandIn()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def add(self, item):
        pass


class TensorUnpickler(pickle.Unpickler):
    """`storage(key, dtype, item, view)` answers for the storages, which lie outside the pickle."""

    def __init__(self, file, storage=None):
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storage = storage

    def find_class(self, module, name):
        if (module, name) in (("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2")):
            return Tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *unused: data
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module in ("torch", "torch.cuda") and name.endswith("Storage"):
            return name
        return StandIn

    def persistent_load(self, saved):
        if self.storage is None or not isinstance(saved, tuple) or len(saved) < 5 or saved[0] != "storage":
            raise BadCheckpoint("an unknown reference")
        if saved[1] not in STORAGES:
            raise BadCheckpoint(f"a storage of type {saved[1]}")
        return self.storage(saved[2], *STORAGES[saved[1]], saved[5] if len(saved) > 5 else None)


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise BadCheckpoint("a zip file, but not of torch.save")
        folder = pickles[0][:-len("data.pkl")]
        if folder + "byteorder" in archive.namelist() and archive.read(folder + "byteorder") != b"little":
            raise BadCheckpoint("it was written on a big-endian machine")
        storages = {}

        def storage(key, dtype, item, view):
            if key not in storages:
                storages[key] = Storage(dtype, item, archive.read(f"{folder}data/{key}"))
            return storages[key]

        with archive.open(pickles[0]) as file:
            return TensorUnpickler(file, storage).load()


def read_legacy(path):
    """PyTorch before 1.6: four pickles, the list of storages, then each storage's length and data."""
    with open(path, "rb") as file:
        if TensorUnpickler(file).load() != LEGACY_MAGIC:
            raise BadCheckpoint("not a file of torch.save")
        TensorUnpickler(file).load()  # protocol
        if not TensorUnpickler(file).load().get("little_endian", True):
            raise BadCheckpoint("it was written on a big-endian machine")
        storages = {}

        def storage(key, dtype, item, view):
            if view is not None:
                raise BadCheckpoint("views of storages (PyTorch before 0.4)")
            return storages.setdefault(key, Storage(dtype, item))

        checkpoint = TensorUnpickler(file, storage).load()
        for key in TensorUnpickler(file).load():
            count = struct.unpack("<q", file.read(8))[0]
            storages[key].data = file.read(count * storages[key].item)
            if len(storages[key].data) != count * storages[key].item:
                raise BadCheckpoint("truncated")
        return checkpoint


def without_module(tensors):
    """Without the "module." that DataParallel and averaged models put before every name; those keep a counter beside them."""
    counters = [name for name, value in tensors.items() if "." not in name and value.count() == 1]
    named = {name: value for name, value in tensors.items() if name not in counters}
    if not named or not all(name.startswith("module.") for name in named):
        return tensors
    return without_module({name[len("module."):]: value for name, value in named.items()})


def split_averages(tensors):
    """MMDetection 2.x keeps the moving average of backbone.conv1.weight as ema_backbone_conv1_weight: both apart."""
    averages = {}
    for name in tensors:
        buffer = "ema_" + name.replace(".", "_")
        if buffer in tensors and buffer != name:
            averages[name] = tensors[buffer]
    buffers = {"ema_" + name.replace(".", "_") for name in averages}
    return {name: value for name, value in tensors.items() if name not in buffers}, averages


def find_tensors(checkpoint, key, only, ema=False):
    """The name -> tensor mapping inside a checkpoint, without "module."; names that begin with one of `only`.

    `ema` takes the moving averages: MMDetection 3.x has them in ema_state_dict, 2.x beside the weights."""
    if ema and key is None and isinstance(checkpoint, dict) and isinstance(checkpoint.get("ema_state_dict"), dict):
        key, ema = "ema_state_dict", False
    has = ", ".join(map(str, checkpoint))[:500] if isinstance(checkpoint, dict) else type(checkpoint).__name__
    if key is None:
        usual = ("state_dict", "model_state_dict", "model")
        key = next((k for k in usual if isinstance(checkpoint, dict) and isinstance(checkpoint.get(k), dict)), "")
    for part in filter(None, key.split(".")):
        if not isinstance(checkpoint, dict) or part not in checkpoint:
            raise BadCheckpoint(f"no '{part}' for --key {key}; the checkpoint has: {has}")
        checkpoint = checkpoint[part]
    mapping = checkpoint if isinstance(checkpoint, dict) else {}
    tensors = {name: value for name, value in mapping.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise BadCheckpoint(f"no named tensors in it; choose a part with --key; the checkpoint has: {has}")
    left_out = [str(name) for name in mapping if name not in tensors]
    if left_out:
        print(f"left out, not tensors: {', '.join(left_out[:10])}{' ...' if len(left_out) > 10 else ''}")
    tensors, averages = split_averages(without_module(tensors))
    if ema:
        if not averages:
            raise BadCheckpoint(f"no moving averages in it (neither ema_state_dict nor ema_.. beside the weights); it has: {has}")
        tensors.update(averages)
    elif averages:
        print(f"left out: {len(averages)} moving averages; --ema takes them instead of the weights")
    prefixes = tuple(only) or ("",)
    chosen = {name: value for name, value in tensors.items() if name.startswith(prefixes)}
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in tensors):
            raise BadCheckpoint(f"no name begins with '{prefix}'; the first is '{next(iter(tensors))}'")
    return chosen


def write_safetensors(path, tensors):
    order = sorted(tensors, key=lambda name: (-DTYPES.index(tensors[name].dtype), name))
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        begin, end = end, end + tensors[name].count() * tensors[name].item
        header[name] = {"dtype": tensors[name].dtype, "shape": tensors[name].shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    temporary = f"{path}.tmp.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                file.write(tensors[name].bytes())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="checkpoint to read (.pth, .pt)")
    parser.add_argument("output", help="safetensors file to write")
    parser.add_argument("--key", help="where the tensors are, as in state_dict or ema.module "
                                      "(default: state_dict, model_state_dict or model if there is one, else the whole file)")
    parser.add_argument("--only", default=[], action="append", metavar="PREFIX,..",
                        help="only the tensors whose names begin with one of these, as in backbone.,neck. (may be given again)")
    parser.add_argument("--ema", action="store_true", help="the moving averages of the weights instead of the weights")
    parser.add_argument("--list", action="store_true", help="also print every name with type and shape")
    arguments = parser.parse_args()
    try:
        open(arguments.input, "rb").close()
    except OSError as error:
        sys.exit(f"{arguments.input}: cannot read: {error.strerror}")
    try:
        read = read_zip if zipfile.is_zipfile(arguments.input) else read_legacy
        tensors = find_tensors(read(arguments.input), arguments.key, [prefix for given in arguments.only for prefix in given.split(",") if prefix],
                               arguments.ema)
        if arguments.list:
            for name, tensor in tensors.items():
                print(f"{name}  {tensor.dtype}  {tensor.shape}")
        write_safetensors(arguments.output, tensors)
    except BadCheckpoint as error:
        sys.exit(f"{arguments.input}: cannot convert: {error}")
    except OSError as error:
        sys.exit(f"{arguments.output}: cannot write: {error}")
    except Exception as error:  # a damaged pickle can fail in any way
        sys.exit(f"{arguments.input}: damaged, or not a PyTorch checkpoint: {type(error).__name__}: {error}")
    print(f"{arguments.output}: {len(tensors)} tensors, {sum(t.count() for t in tensors.values()) / 1e6:.2f} M values")


if __name__ == "__main__":
    main()
