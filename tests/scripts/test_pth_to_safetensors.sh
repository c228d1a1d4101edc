#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The weight converter on checkpoints as other systems write them, made here without PyTorch.
set -euo pipefail
command -v python3 > /dev/null || { echo "no python3" && exit 77; }
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# write FILE: reads lines "path.of.keys/name value value .." and writes a zip file as torch.save does. Keys before the
# slash lead to the mapping that holds the tensor; the tensor is a row of floats, a "scalar" line one number without
# shape.
cat > write.py <<'PYTHON'
import io, pickle, struct, sys, zipfile
from collections import OrderedDict

class Storage:
    def __init__(self, key, count): self.key, self.count = key, count
class Tensor:
    def __init__(self, storage, shape): self.storage, self.shape = storage, shape
class Global:
    def __init__(self, module, name): self.module, self.name = module, name

class Pickler(pickle._Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage): return ("storage", Global("torch", "FloatStorage"), obj.key, "cpu", obj.count)
    def save_named(self, obj): self.write(b"c" + obj.module.encode() + b"\n" + obj.name.encode() + b"\n")
    def save_tensor(self, obj):
        self.save_named(Global("torch._utils", "_rebuild_tensor_v2"))
        stride = (1,) * len(obj.shape)
        self.save((obj.storage, 0, tuple(obj.shape), stride, False, OrderedDict()))
        self.write(pickle.REDUCE)
    dispatch = dict(pickle._Pickler.dispatch)
    dispatch[Global], dispatch[Tensor] = save_named, save_tensor

root, storages = {}, {}
for line in sys.stdin:
    path, *values = line.split()
    keys, name = path.split("/")
    here = root
    for key in filter(None, keys.split(":")): here = here.setdefault(key, {})
    scalar = values[0] == "scalar"
    floats = [float(v) for v in (values[1:] if scalar else values)]
    key = str(len(storages))
    storages[key] = struct.pack(f"<{len(floats)}f", *floats)
    here[name] = Tensor(Storage(key, len(floats)), [] if scalar else [len(floats)])
out = io.BytesIO()
Pickler(out, 2).dump(root)
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.writestr("a/data.pkl", out.getvalue())
    for key, data in storages.items(): archive.writestr(f"a/data/{key}", data)
PYTHON
# names FILE: "name=first value" of each tensor of a safetensors file, sorted, on one line.
cat > names.py <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
print(*sorted(f"{n}={struct.unpack_from('<f', data, 8 + size + t['data_offsets'][0])[0]:g}" for n, t in header.items() if n != "__metadata__"))
PYTHON

failures=0
expect() { # WHAT GOT WANT
  if [ "$2" != "$3" ]; then
    printf '%s:\n  got  %s\n  want %s\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}
convert() { python3 "$tree/scripts/pth_to_safetensors.py" "$@"; }
result() { rm -f out.safetensors && convert "$@" in.pth out.safetensors > said.txt 2>&1 && python3 names.py out.safetensors; }

python3 write.py in.pth << 'END'
state_dict/backbone.conv1.weight 1 2
state_dict/neck.a.bias 3
state_dict/bbox_head.b.bias 4
END
all='backbone.conv1.weight=1 bbox_head.b.bias=4 neck.a.bias=3'
expect "plain" "$(result)" "$all"
expect "one prefix" "$(result --only backbone.)" "backbone.conv1.weight=1"
expect "two prefixes, comma" "$(result --only backbone.,neck.)" "backbone.conv1.weight=1 neck.a.bias=3"
expect "two prefixes, twice" "$(result --only backbone. --only neck.)" "backbone.conv1.weight=1 neck.a.bias=3"
if result --only backbone.,nekc. > /dev/null; then expect "a prefix of nothing" "accepted" "refused"; fi
expect "a prefix of nothing" "$(grep -c "no name begins with 'nekc.'" said.txt)" 1
if result --ema > /dev/null; then expect "no averages" "accepted" "refused"; fi

# MMDetection 3.x: an averaged model beside the weights, with its counter.
python3 write.py in.pth << 'END'
state_dict/backbone.conv1.weight 1 2
ema_state_dict/steps scalar 9
ema_state_dict/module.backbone.conv1.weight 5 6
ema_state_dict/module.bbox_head.b.bias 7
END
expect "3.x weights" "$(result)" "backbone.conv1.weight=1"
expect "3.x averages" "$(result --ema)" "backbone.conv1.weight=5 bbox_head.b.bias=7"
expect "3.x averages by key" "$(result --key ema_state_dict)" "backbone.conv1.weight=5 bbox_head.b.bias=7"

# DataParallel inside an averaged model; one name without the prefix keeps all as they are.
python3 write.py in.pth << 'END'
/n_averaged scalar 3
/module.module.backbone.conv1.weight 8
END
expect "twice wrapped" "$(result)" "backbone.conv1.weight=8"
python3 write.py in.pth << 'END'
/module.backbone.conv1.weight 8
/other.bias 1
END
expect "half wrapped" "$(result)" "module.backbone.conv1.weight=8 other.bias=1"

# MMDetection 2.x: averages as buffers of the same model.
python3 write.py in.pth << 'END'
state_dict/backbone.conv1.weight 1 2
state_dict/backbone.bn1.running_mean 3
state_dict/ema_backbone_conv1_weight 10 11
state_dict/ema_backbone_bn1_running_mean 12
state_dict/bbox_head.b.bias 4
END
expect "2.x weights" "$(result)" "backbone.bn1.running_mean=3 backbone.conv1.weight=1 bbox_head.b.bias=4"
expect "2.x says so" "$(grep -c '2 moving averages; --ema' said.txt)" 1
expect "2.x averages" "$(result --ema)" "backbone.bn1.running_mean=12 backbone.conv1.weight=10 bbox_head.b.bias=4"

# mmpretrain: the classifier stays in the file; training ignores it.
python3 write.py in.pth << 'END'
state_dict/backbone.conv1.weight 1
state_dict/head.fc.weight 2
END
expect "mmpretrain" "$(result)" "backbone.conv1.weight=1 head.fc.weight=2"

[ "$failures" -eq 0 ] && echo "all forms converted"
exit "$((failures > 0))"
