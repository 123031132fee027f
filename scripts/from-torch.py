#!/usr/bin/env python3
"""An nn.Sequential as a `layers:` list and weights for fedlane, and back.

    from-torch.py MODEL.pt OUT              writes OUT.yaml (model: layers and weights) and OUT.safetensors
    from-torch.py --back RUN/config.yaml RUN/model.safetensors OUT.pt

MODEL.pt is what torch.save(nn.Sequential(...), "MODEL.pt") writes. Loading such a file runs code that lies in
it: only load files that you trust. Weights keep their names: layer 3's is "3.weight" on both sides.
Exit status 0 done, 2 when a file cannot be read or a module has no counterpart.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import sys
from typing import Any, Callable

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit("from-torch.py: it needs PyTorch: pip install torch, or Debian's python3-torch")

import safetensors_file

Layer = dict[str, Any]      # its first key is the kind, as in a configuration


class Refused(Exception):
    """One sentence for the user."""


def same(m: Any, option: str) -> int:
    """A size that must be the same in both directions."""
    value = getattr(m, option)
    sizes = set(value) if isinstance(value, (tuple, list)) else {value}
    if len(sizes) != 1 or not isinstance(next(iter(sizes)), int):
        raise Refused(f"{option} is {value!r}; only one whole number has a counterpart")
    return int(sizes.pop())


def only(m: Any, **options: Any) -> None:
    """Refuses what fedlane's layer cannot do."""
    for option, allowed in options.items():
        value = getattr(m, option)
        if value != allowed and not (isinstance(value, tuple) and set(value) == {allowed}):
            raise Refused(f"{option} is {value!r}; only {allowed!r} has a counterpart")


def placed(m: Any, stride: int) -> Layer:
    """Where a window moves, as far as it is not what fedlane takes by itself."""
    layer: Layer = {}
    if same(m, "stride") != stride:
        layer["stride"] = same(m, "stride")
    if same(m, "padding"):
        layer["pad"] = same(m, "padding")
    return layer


def bias(m: Any) -> Layer:
    return {} if m.bias is not None else {"no_bias": True}


def conv(m: Any) -> Layer:
    only(m, dilation=1, padding_mode="zeros")
    kernel = same(m, "kernel_size")
    if isinstance(m, nn.Conv2d) and m.groups == m.in_channels == m.out_channels > 1:
        return {"depthwise": kernel, **placed(m, 1), **bias(m)}
    only(m, groups=1)
    kind = "conv" if isinstance(m, nn.Conv2d) else "conv1d"
    return {kind: m.out_channels, "kernel": kernel, **placed(m, 1), **bias(m)}


def pool(kind: str, **options: Any) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        only(m, ceil_mode=False, **options)
        kernel = same(m, "kernel_size")
        return {kind: kernel, **placed(m, kernel)}
    return make


def whole(kind: str) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        only(m, output_size=1)
        return {kind: 0}
    return make


def simple(kind: str, **options: Any) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        only(m, **options)
        return {kind: None}
    return make


def layer_norm(m: Any) -> Layer:
    only(m, eps=1e-5, elementwise_affine=True)
    if len(m.normalized_shape) != 1:
        raise Refused(f"normalized_shape is {m.normalized_shape}; only one dimension has a counterpart")
    return {"layer_norm": None}


def group_norm(m: Any) -> Layer:
    only(m, eps=1e-5, affine=True)
    return {"group_norm": m.num_groups}


def embed(m: Any) -> Layer:
    only(m, padding_idx=None, max_norm=None)
    return {"embed": m.embedding_dim}


MODULES: dict[type, Callable[[Any], Layer]] = {
    nn.Conv2d: conv,
    nn.Conv1d: conv,
    nn.Linear: lambda m: {"dense": m.out_features, **bias(m)},
    nn.Embedding: embed,
    nn.MaxPool2d: pool("max_pool", dilation=1, return_indices=False),
    nn.MaxPool1d: pool("max_pool1d", dilation=1, return_indices=False),
    nn.AvgPool2d: pool("avg_pool", count_include_pad=True, divisor_override=None),
    nn.AvgPool1d: pool("avg_pool1d", count_include_pad=True),
    nn.AdaptiveAvgPool2d: whole("avg_pool"),
    nn.AdaptiveAvgPool1d: whole("avg_pool1d"),
    nn.ReLU: simple("relu"),
    nn.Tanh: simple("tanh"),
    nn.Sigmoid: simple("sigmoid"),
    nn.GELU: simple("gelu", approximate="none"),
    nn.Flatten: simple("flatten", start_dim=1, end_dim=-1),
    nn.Dropout: lambda m: {"dropout": m.p},
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
}


def to_layers(model: Any) -> list[Layer]:
    if not isinstance(model, nn.Sequential):
        raise Refused(f"the file holds an object of type {type(model).__name__}; an nn.Sequential is needed")
    layers: list[Layer] = []
    for name, module in model.named_children():
        what = f"module {name} ({type(module).__name__})"
        if type(module) not in MODULES:
            raise Refused(f"{what} has no counterpart; there are {', '.join(m.__name__ for m in MODULES)}")
        try:
            layer = MODULES[type(module)](module)
        except Refused as why:
            raise Refused(f"{what}: {why}") from why
        if name != str(len(layers)):
            # A kind that has no setting of its own takes its name for a value.
            layer[next(iter(layer)) if None in layer.values() else "name"] = name
        layers.append(layer)
    return layers


def text_of(layer: Layer) -> str:
    """A layer as it stands in a configuration; JSON's numbers, words and texts are YAML's too."""
    if None in layer.values():
        return next(iter(layer))
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in layer.items()) + "}"


def pooled(one: Any, adaptive: Any) -> Callable[..., nn.Module]:
    def make(value: Any, stride: int, pad: int, **_: Any) -> nn.Module:
        if adaptive and not value:
            return adaptive(1)
        return one(value or 2, stride or value or 2, pad)
    return make


# A module of a layer's value, its options and the shape w of its weight.
KINDS: dict[str, Callable[..., nn.Module]] = {
    "conv": lambda value, w, stride, pad, bias: nn.Conv2d(w[1], w[0], w[2], stride or 1, pad, bias=bias),
    "conv1d": lambda value, w, stride, pad, bias: nn.Conv1d(w[1], w[0], w[2], stride or 1, pad, bias=bias),
    "depthwise": lambda value, w, stride, pad, bias: nn.Conv2d(w[0], w[0], w[2], stride or 1, pad, groups=w[0],
                                                               bias=bias),
    "dense": lambda value, w, bias, **_: nn.Linear(w[1], w[0], bias=bias),
    "embed": lambda value, w, **_: nn.Embedding(w[0], w[1]),
    "group_norm": lambda value, w, **_: nn.GroupNorm(value, w[0]),
    "layer_norm": lambda value, w, **_: nn.LayerNorm(w[0]),
    "max_pool": pooled(nn.MaxPool2d, None),
    "max_pool1d": pooled(nn.MaxPool1d, None),
    "avg_pool": pooled(nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    "avg_pool1d": pooled(nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    "relu": lambda value, **_: nn.ReLU(),
    "tanh": lambda value, **_: nn.Tanh(),
    "sigmoid": lambda value, **_: nn.Sigmoid(),
    "gelu": lambda value, **_: nn.GELU(),
    "flatten": lambda value, **_: nn.Flatten(),
    "dropout": lambda value, **_: nn.Dropout(value),
}
WEIGHTED = ("conv", "conv1d", "depthwise", "dense", "embed", "group_norm", "layer_norm")
NAMED_BY_VALUE = ("relu", "tanh", "sigmoid", "gelu", "flatten", "layer_norm")


def from_layers(layers: list[Any], shapes: dict[str, tuple[int, ...]]) -> nn.Sequential:
    """Modules whose sizes are those of the weights."""
    model = nn.Sequential()
    for i, item in enumerate(layers):
        layer = dict(item) if isinstance(item, dict) else {item: None}
        kind = next(iter(layer))
        value, name = layer[kind], str(layer.get("name") or i)
        if kind in NAMED_BY_VALUE:
            name = str(value or i)
        if kind not in KINDS:
            raise Refused(f"layer {i}, {kind}, has no counterpart in an nn.Sequential")
        if layer.get("from"):
            raise Refused(f"layer {i}, {kind}, does not follow the layer before it, as all of an nn.Sequential do")
        w = shapes.get(name + ".weight", ())
        if kind in WEIGHTED and not w:
            raise Refused(f"there is no weight '{name}.weight' for layer {i}, {kind}")
        model.add_module(name, KINDS[kind](value=value, w=w, stride=layer.get("stride") or 0,
                                           pad=layer.get("pad") or 0, bias=not layer.get("no_bias")))
    return model


def there(source: str, out: str) -> None:
    try:
        model = torch.load(source, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, RuntimeError) as why:
        raise Refused(f"{source} cannot be loaded: {why or 'it is empty'}") from why
    layers = to_layers(model)
    tensors = {name: t.detach().float().contiguous().numpy() for name, t in model.state_dict().items()}
    safetensors_file.write(out + ".safetensors", tensors)
    lines = ["model:", f"  weights: {json.dumps(out + '.safetensors')}", "  layers:"]
    lines += [f"    - {text_of(layer)}" for layer in layers]
    pathlib.Path(out + ".yaml").write_text("\n".join(lines) + "\n")
    count = sum(t.size for t in tensors.values())
    print(f"{out}.yaml: {len(layers)} layers, for a configuration; {out}.safetensors: {count} parameters")


def back(config: str, weights: str, out: str) -> None:
    try:
        import yaml
    except ImportError as why:
        raise Refused("reading a configuration needs PyYAML: pip install pyyaml") from why
    try:
        held = yaml.safe_load(pathlib.Path(config).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as why:
        raise Refused(f"{config} is no configuration: {why}") from why
    model = held.get("model") if isinstance(held, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("layers"), list):
        raise Refused(f"{config} has no model.layers; put the layers that `fedlane show model NAME` prints there")
    arrays = safetensors_file.read(weights)
    made = from_layers(model["layers"], {name: a.shape for name, a in arrays.items()})
    made.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()}, strict=True)
    torch.save(made, out)
    print(f"{out}: an nn.Sequential of {len(made)} modules")


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--back", action="store_true", help="from a run to an nn.Sequential")
    parse.add_argument("file", nargs="+")
    a = parse.parse_args()
    if len(a.file) != (3 if a.back else 2):
        parse.error("three files are expected with --back, else two")
    try:
        (back if a.back else there)(*a.file)
    except (Refused, OSError, RuntimeError, ValueError) as why:
        print(f"from-torch.py: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
