#!/usr/bin/env python3
"""An nn.Sequential as a `layers:` list and weights for fedlane, and back.

    from-torch.py MODEL.pt OUT              OUT.yaml (model: layers and weights) and OUT.safetensors
    from-torch.py --back RUN/config.yaml RUN/model.safetensors OUT.pt

MODEL.pt: what torch.save(nn.Sequential(...), "MODEL.pt") has written. Loading such a file runs code that lies
in it: only load files that you trust. Weights keep their names: layer 3's is called "3.weight" on both sides.
Exit status 0 done, 2 when a module has no counterpart.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import struct
import sys
from typing import Any, Callable

import torch
from torch import nn

Layer = dict[str, Any]


class Refused(Exception):
    pass


def one(what: str, value: Any) -> int:
    """A size that must be the same in both directions."""
    values = set(value) if isinstance(value, (tuple, list)) else {value}
    if len(values) != 1 or isinstance(value, str):
        raise Refused(f"{what} is {value}; it must be one whole number")
    return int(values.pop())


def plain(m: Any, **usual: Any) -> None:
    """Refuses options that fedlane's layer does not have."""
    for name, value in usual.items():
        have = getattr(m, name)
        if have != value and not (isinstance(have, tuple) and set(have) == {value}):
            raise Refused(f"{name} is {have}; only {value} has a counterpart")


def window(m: Any, layer: Layer) -> Layer:
    layer |= {"kernel": one("kernel_size", m.kernel_size)}
    stride = one("stride", m.stride)
    if stride != (layer["kernel"] if "pool" in next(iter(layer)) else 1):
        layer["stride"] = stride
    if one("padding", m.padding):
        layer["pad"] = one("padding", m.padding)
    return layer


def conv(kind: str) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        depthwise = kind == "conv" and m.groups == m.in_channels == m.out_channels and m.groups > 1
        plain(m, dilation=1, padding_mode="zeros", **({} if depthwise else {"groups": 1}))
        layer = window(m, {"depthwise": None} if depthwise else {kind: m.out_channels})
        if depthwise:
            layer = {"depthwise": layer.pop("kernel")} | {k: v for k, v in layer.items() if k != "depthwise"}
        return layer | ({} if m.bias is not None else {"no_bias": True})
    return make


def pool(kind: str, **usual: Any) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        plain(m, ceil_mode=False, **usual)
        size = one("kernel_size", m.kernel_size)
        layer = window(m, {kind: size})
        del layer["kernel"]
        return layer
    return make


def whole(kind: str) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        if one("output_size", m.output_size) != 1:
            raise Refused(f"output_size is {m.output_size}; only 1 has a counterpart")
        return {kind: 0}
    return make


def norm(m: Any) -> Layer:
    plain(m, eps=1e-5, affine=True)
    return {"group_norm": m.num_groups}


def layer_norm(m: Any) -> Layer:
    plain(m, eps=1e-5, elementwise_affine=True)
    return {"layer_norm": None}


def gelu(m: Any) -> Layer:
    plain(m, approximate="none")
    return {"gelu": None}


def flatten(m: Any) -> Layer:
    if (m.start_dim, m.end_dim) != (1, -1):
        raise Refused("only Flatten(1, -1) has a counterpart")
    return {"flatten": None}


def dense(m: Any) -> Layer:
    return {"dense": m.out_features} | ({} if m.bias is not None else {"no_bias": True})


MODULES: dict[type, Callable[[Any], Layer]] = {
    nn.Conv2d: conv("conv"),
    nn.Conv1d: conv("conv1d"),
    nn.Linear: dense,
    nn.Embedding: lambda m: {"embed": m.embedding_dim},
    nn.MaxPool2d: pool("max_pool", dilation=1, return_indices=False),
    nn.MaxPool1d: pool("max_pool1d", dilation=1, return_indices=False),
    nn.AvgPool2d: pool("avg_pool", count_include_pad=True, divisor_override=None),
    nn.AvgPool1d: pool("avg_pool1d", count_include_pad=True),
    nn.AdaptiveAvgPool2d: whole("avg_pool"),
    nn.AdaptiveAvgPool1d: whole("avg_pool1d"),
    nn.ReLU: lambda m: {"relu": None},
    nn.Tanh: lambda m: {"tanh": None},
    nn.Sigmoid: lambda m: {"sigmoid": None},
    nn.GELU: gelu,
    nn.Dropout: lambda m: {"dropout": m.p},
    nn.Flatten: flatten,
    nn.GroupNorm: norm,
    nn.LayerNorm: layer_norm,
}


def to_layers(model: nn.Module) -> list[Layer]:
    if not isinstance(model, nn.Sequential):
        raise Refused(f"the file holds a {type(model).__name__}; an nn.Sequential is needed")
    layers = []
    for name, module in model.named_children():
        if type(module) not in MODULES:
            raise Refused(f"module {name} is a {type(module).__name__}, which has no counterpart; there are "
                          + ", ".join(sorted(m.__name__ for m in MODULES)))
        try:
            layer = MODULES[type(module)](module)
        except Refused as why:
            raise Refused(f"module {name} ({type(module).__name__}): {why}") from why
        layers.append(layer | ({} if name == str(len(layers)) else {"name": name}))
    return layers


def text_of(layer: Layer) -> str:
    words = {True: "true", False: "false"}
    items = [f"{k}: {words[v] if isinstance(v, bool) else v}" for k, v in layer.items() if v is not None]
    return next(iter(layer)) if not items else "{" + ", ".join(items if layer[next(iter(layer))] is not None
                                                               else [f"{next(iter(layer))}: "] + items) + "}"


def from_layers(layers: list[Any], shapes: dict[str, list[int]]) -> nn.Sequential:
    """Modules whose input sizes are those of the weights."""
    made: list[tuple[str, nn.Module]] = []
    for i, item in enumerate(layers):
        layer = {item: None} if isinstance(item, str) else dict(item)
        kind = next(iter(layer))
        name = str(layer.get("name") or i)
        made.append((name, module_of(kind, layer[kind], layer, shapes.get(name + ".weight"))))
    model = nn.Sequential()
    for name, module in made:
        model.add_module(name, module)
    return model


def module_of(kind: str, value: Any, layer: Layer, w: list[int] | None) -> nn.Module:
    bias, pad = not layer.get("no_bias"), layer.get("pad") or 0
    kernel, stride = layer.get("kernel"), layer.get("stride") or 0
    if kind in ("conv", "conv1d") and w:
        make = nn.Conv2d if kind == "conv" else nn.Conv1d
        return make(w[1], w[0], kernel or w[2], stride=stride or 1, padding=pad, bias=bias)
    if kind == "depthwise" and w:
        return nn.Conv2d(w[0], w[0], w[2], stride=stride or 1, padding=pad, groups=w[0], bias=bias)
    if kind == "dense" and w:
        return nn.Linear(w[1], w[0], bias=bias)
    if kind == "embed" and w:
        return nn.Embedding(w[0], w[1])
    if kind == "group_norm" and w:
        return nn.GroupNorm(int(value), w[0])
    if kind == "layer_norm" and w:
        return nn.LayerNorm(w[0])
    if kind in ("avg_pool", "avg_pool1d") and not value:
        return nn.AdaptiveAvgPool2d(1) if kind == "avg_pool" else nn.AdaptiveAvgPool1d(1)
    pools = {"max_pool": nn.MaxPool2d, "avg_pool": nn.AvgPool2d, "max_pool1d": nn.MaxPool1d, "avg_pool1d": nn.AvgPool1d}
    if kind in pools:
        return pools[kind](int(value), stride=stride or int(value), padding=pad)
    simple = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "flatten": nn.Flatten}
    if kind in simple:
        return simple[kind]()
    if kind == "dropout":
        return nn.Dropout(float(value))
    raise Refused(f"layer '{kind}' has no counterpart in an nn.Sequential")


def read_safetensors(path: str) -> dict[str, torch.Tensor]:
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + size + begin:8 + size + end])
        out[name] = torch.frombuffer(raw, dtype=torch.float32).reshape(entry["shape"])
    return out


def write_safetensors(path: str, tensors: dict[str, torch.Tensor]) -> None:
    header, blobs, at = {}, [], 0
    for name, t in tensors.items():
        raw = t.detach().cpu().float().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = pathlib.Path(path + ".part")
    part.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    part.replace(path)


def there(source: str, out: str) -> None:
    model = torch.load(source, map_location="cpu", **({"weights_only": False} if torch.__version__ >= "2.6" else {}))
    layers = to_layers(model)
    write_safetensors(out + ".safetensors", model.state_dict())
    lines = ["model:", f"  weights: {out}.safetensors", "  layers:"] + [f"    - {text_of(layer)}" for layer in layers]
    pathlib.Path(out + ".yaml").write_text("\n".join(lines) + "\n")
    print(f"{out}.yaml: {len(layers)} layers; {out}.safetensors: {sum(p.numel() for p in model.parameters())} parameters")


def back(config: str, weights: str, out: str) -> None:
    try:
        import yaml
    except ImportError as why:
        raise Refused("reading a configuration needs PyYAML: pip install pyyaml") from why
    model = (yaml.safe_load(pathlib.Path(config).read_text()) or {}).get("model") or {}
    if not isinstance(model, dict) or not model.get("layers"):
        raise Refused(f"{config} has no model.layers; `fedlane show` prints those of a named model")
    tensors = read_safetensors(weights)
    made = from_layers(model["layers"], {n: list(t.shape) for n, t in tensors.items()})
    made.load_state_dict(tensors, strict=True)
    torch.save(made, out)
    print(f"{out}: {len(made)} modules")


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--back", action="store_true", help="from a run to an nn.Sequential")
    parse.add_argument("file", nargs="+")
    a = parse.parse_args()
    if len(a.file) != (3 if a.back else 2):
        parse.error("three files are expected with --back, else two")
    try:
        (back if a.back else there)(*a.file)
    except (Refused, OSError, RuntimeError) as why:
        print(f"from-torch.py: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
