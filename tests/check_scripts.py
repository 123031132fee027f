#!/usr/bin/env python3
"""scripts/to-safetensors.py and scripts/from-torch.py, on good and bad inputs, as a user calls them.

check_scripts.py PROGRAM SOURCE FOLDER: PROGRAM (fedlane) reads what they write; SOURCE is the source's root;
everything is written to FOLDER. What needs PyTorch is left out where it is not installed; exit status 77 where
NumPy is not.
"""
from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import math
import pathlib
import shutil
import subprocess
import sys
import types

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)
try:
    import torch
    from torch import nn
except ImportError:
    torch = None

PROGRAM, SOURCE, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
sys.path.insert(0, str(SOURCE / "scripts"))
sys.dont_write_bytecode = True
import safetensors_file  # noqa: E402


def load(name: str) -> types.ModuleType:
    path = str(SOURCE / "scripts" / name)
    loader = importlib.machinery.SourceFileLoader(name.partition(".")[0].replace("-", "_"), path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def script(name: str, *words: object) -> tuple[int, str]:
    """Calls a script as its own program does, but in this process: PyTorch takes a second to load."""
    said, usual = io.StringIO(), sys.argv
    sys.argv = [name, *map(str, words)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            rc = SCRIPTS[name].main()
    except SystemExit as end:
        rc = end.code
    finally:
        sys.argv = usual
    return rc, said.getvalue()


def convert(**arrays: object) -> tuple[int, str]:
    """Saves the arrays as a .npz and converts it to FOLDER/set.safetensors."""
    np.savez(FOLDER / "set.npz", **arrays)
    (FOLDER / "set.safetensors").unlink(missing_ok=True)
    rc, text = script("to-safetensors.py", FOLDER / "set.npz", FOLDER / "set.safetensors")
    assert (rc == 0) == (FOLDER / "set.safetensors").exists(), text
    return rc, text


def train(config: str, tag: str) -> dict[str, float]:
    """Runs fedlane with the configuration and returns its last metrics."""
    file = FOLDER / f"{tag}.yaml"
    file.write_text(config)
    subprocess.run([PROGRAM, "run", file, f"output={FOLDER / tag}", "--quiet"], check=True)
    return json.loads((FOLDER / tag / "metrics.jsonl").read_text().splitlines()[-1])


def check_good() -> None:
    g = np.random.default_rng(0)
    x, y = g.normal(size=(40, 1, 8, 8)), g.integers(0, 3, 40)
    owners = np.array(["carol", "alice", "bob", "dave"])[np.arange(40) % 4]
    rc, text = convert(x=x, y=y, client=owners, x_test=x[:9], y_test=y[:9])
    assert rc == 0, text
    held = safetensors_file.read(str(FOLDER / "set.safetensors"))
    assert list(held) == ["x", "y", "client", "x_test", "y_test"]
    assert held["x"].dtype == np.float32 and np.array_equal(held["x"], x.astype(np.float32))
    assert held["y"].dtype == np.int32 and np.array_equal(held["y"], y)
    assert held["client"].tolist() == [2, 0, 1, 3] * 10, held["client"]
    line = text.splitlines()[-1]
    assert line.endswith("partition: {kind: natural}}"), line
    last = train(line + "\nmodel: {layers: [flatten, dense]}\ntrain: {rounds: 1, cohort: 4, batch: 5, lr: 0.1}\n",
                 "good")
    assert last["clients"] == 4 and last["examples"] == 40 and math.isfinite(last["test_loss"]), last

    done = subprocess.run([sys.executable, "-B", SOURCE / "scripts" / "to-safetensors.py", FOLDER / "set.npz",
                           FOLDER / "again.safetensors"], stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    assert (FOLDER / "again.safetensors").read_bytes() == (FOLDER / "set.safetensors").read_bytes()

    # Each array from a file of its own; types of every kind arrive with their values.
    for values, code in ((x.astype(">f8"), "F32"), (x.astype(np.float16), "F32"), (x > 0, "U8"),
                         ((x > 0).astype(np.uint8), "U8"), (np.asfortranarray(x), "F32")):
        np.save(FOLDER / "x.npy", values)
        np.save(FOLDER / "y.npy", y.astype(">i2"))
        rc, text = script("to-safetensors.py", f"y={FOLDER}/y.npy", f"x={FOLDER}/x.npy", FOLDER / "own.safetensors")
        held = safetensors_file.read(str(FOLDER / "own.safetensors"))
        assert rc == 0 and np.array_equal(held["x"], values.astype(held["x"].dtype)), text
        assert f"x       {code:3} 40 x 1 x 8 x 8" in text and np.array_equal(held["y"], y), text

    tokens = g.integers(0, 90, (12, 6))
    rc, text = convert(x=tokens, y=np.roll(tokens, -1, 1))
    assert rc == 0 and f"tokens: {tokens.max() + 1}" in text, text
    rc, text = convert(x=g.normal(size=(12, 6, 2)), y=np.full((12, 6), -1))
    assert rc == 0 and "steps: true" in text, text
    rc, text = convert(x=x, y=y.astype(np.int64), client=np.arange(40) + 2**40)
    assert rc == 0 and "client  I64" in text, text
    if torch:
        torch.save({"x": torch.ones(4, 3, requires_grad=True), "y": torch.tensor([0, 1, 0, 1])}, FOLDER / "set.pt")
        rc, text = script("to-safetensors.py", FOLDER / "set.pt", FOLDER / "pt.safetensors")
        assert rc == 0 and "x       F32 4 x 3" in text, text


def check_bad() -> None:
    x, y = np.ones((6, 3)), np.arange(6) % 2
    hole, huge, wild = x.copy(), x.copy(), y.copy()
    hole[4, 1], huge[2, 0], wild[5] = np.nan, 1e300, -1
    for arrays, words in (
            ({"y": y}, "x is missing"),
            ({"x": x, "y": y, "z": y}, "'z' is unknown"),
            ({"x": x, "y": y[:5]}, "x has 6 rows and y 5"),
            ({"x": x, "y": y, "client": y[:3]}, "x has 6 rows and client 3"),
            ({"x": x, "y": y, "x_test": x}, "one of them is missing"),
            ({"x": x, "y": y, "x_test": x[:, :2], "y_test": y}, "a row of x has the shape [3], of x_test [2]"),
            ({"x": x, "y": y, "x_test": x, "y_test": y * 0.5}, "y is of type int32 and y_test of type float32"),
            ({"x": hole, "y": y}, "x: row 4 holds a value that is not finite"),
            ({"x": huge, "y": y}, "x: row 2 holds a value that is not finite"),
            ({"x": x, "y": hole[:, 1]}, "y: row 4 holds a value that is not finite"),
            ({"x": x, "y": wild}, "y: row 5 holds a number below 0"),
            ({"x": x, "y": np.array(list("ababab"))}, "y is of type <U1"),
            ({"x": x * 1j, "y": y}, "x is of type complex128"),
            ({"x": x[:, 0], "y": y}, "x has the shape [6]; 2 to 4 dimensions"),
            ({"x": x[:0], "y": y[:0]}, "x has the shape [0, 3], which is empty"),
            ({"x": x, "y": np.int64(1)}, "y has the shape []; 1 to 2 dimensions"),
            ({"x": x, "y": y, "client": x}, "client has the shape [6, 3]; 1 dimension is expected"),
            ({"x": x, "y": y, "client": x[:, 0]}, "client is of type float32"),
            ({"x": np.full((6, 2, 2), 300), "y": y}, "make pixels uint8"),
            ({"x": np.full((6, 2), -1), "y": y}, "x: row 0 holds a number below 0"),
            ({"x": np.ones((6, 4), int), "y": np.ones((6, 3), int)}, "3 labels a row and x 4 steps"),
            ({"x": x, "y": np.full(6, 2**63, np.uint64)}, "beyond 64 bits"),
            ({"x": np.array([[1, 2], [3]], dtype=object), "y": y[:2]}, "no plain arrays (objects cannot be read)")):
        rc, text = convert(**arrays)
        assert rc == 2 and words in text, (words, text)
    np.save(FOLDER / "one.npy", x)
    (FOLDER / "noise.npz").write_bytes(b"PK\3\4" + bytes(50))
    (FOLDER / "empty.npz").write_bytes(b"")
    out = FOLDER / "bad.safetensors"
    for words, expected in (([FOLDER / "one.npy", out], "holds one array"),
                            ([FOLDER / "noise.npz", out], "no plain arrays"),
                            ([FOLDER / "empty.npz", out], "no plain arrays"),
                            ([FOLDER / "absent.npz", out], "absent.npz"),
                            ([FOLDER / "one.npy", FOLDER / "one.npy", out], "one input is expected"),
                            ([f"z={FOLDER}/one.npy", out], "No such file"),
                            ([FOLDER / "set.npz"], "required")):
        rc, text = script("to-safetensors.py", *words)
        assert rc == 2 and expected in text, (words, text)
    np.savez(FOLDER / "fine.npz", x=x, y=y)
    rc, text = script("to-safetensors.py", FOLDER / "fine.npz", FOLDER / "nowhere" / "set.safetensors")
    assert rc == 2 and "nowhere" in text, text
    if torch:
        torch.save(nn.Linear(2, 2), FOLDER / "code.pt")
        rc, text = script("to-safetensors.py", FOLDER / "code.pt", out)
        assert rc == 2 and "no plain arrays" in text, text
    assert not out.exists()


def check_there_and_back() -> None:
    """A model of PyTorch has the same loss in fedlane, and comes back with the same answers."""
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, module in (("first", nn.Conv2d(1, 4, 3, padding=1)), ("1", nn.ReLU()), ("2", nn.MaxPool2d(2)),
                         ("yes", nn.Conv2d(4, 6, 3, bias=False)), ("4", nn.GroupNorm(2, 6)), ("bend", nn.Tanh()),
                         ("6", nn.AvgPool2d(2, stride=1, padding=1)), ("7", nn.Flatten()), ("8", nn.Dropout(0.25)),
                         ("9", nn.Linear(54, 8)), ("10", nn.GELU()), ("head", nn.Linear(8, 3, bias=False))):
        model.add_module(name, module)
    torch.save(model, FOLDER / "model.pt")
    rc, text = script("from-torch.py", FOLDER / "model.pt", FOLDER / "model")
    assert rc == 0 and "12 layers" in text, text

    x, y = torch.randn(50, 1, 8, 8), torch.randint(0, 3, (50,))
    rc, text = convert(x=x[:20], y=y[:20], x_test=x[20:], y_test=y[20:])
    assert rc == 0, text
    layers = (FOLDER / "model.yaml").read_text()
    last = train(f"{text.splitlines()[-1]}\n{layers}train: {{rounds: 1, cohort: 4, batch: 5, lr: 1e-30}}\n", "there")
    model.eval()
    logits = model(x[20:])
    loss = nn.functional.cross_entropy(logits, y[20:]).item()
    accuracy = (logits.argmax(1) == y[20:]).float().mean().item()
    assert math.isclose(loss, last["test_loss"], rel_tol=1e-5), (loss, last)
    assert abs(accuracy - last["test_accuracy"]) < 1e-6, (accuracy, last)

    rc, text = script("from-torch.py", "--back", FOLDER / "there" / "config.yaml",
                      FOLDER / "there" / "model.safetensors", FOLDER / "back.pt")
    if "needs PyYAML" in text:
        print("skipped: from-torch.py --back, PyYAML is not installed")
        return
    assert rc == 0, text
    again = torch.load(FOLDER / "back.pt").eval()
    assert [(n, type(m)) for n, m in again.named_children()] == [(n, type(m)) for n, m in model.named_children()]
    assert torch.allclose(again(x), model(x), atol=1e-6)


def check_every_module() -> None:
    """Each module that has a counterpart keeps its meaning there and back."""
    picture, series = torch.randn(2, 4, 9, 9), torch.randn(2, 4, 12)
    for module, x, line in (
            (nn.Conv2d(4, 6, 3, stride=2, padding=1), picture, "{conv: 6, kernel: 3, stride: 2, pad: 1}"),
            (nn.Conv2d(4, 4, 3, groups=4, bias=False), picture, "{depthwise: 3, no_bias: true}"),
            (nn.Conv1d(4, 5, 3, padding=2), series, "{conv1d: 5, kernel: 3, pad: 2}"),
            (nn.Linear(9, 2), picture, "{dense: 2}"),
            (nn.Embedding(20, 6), torch.randint(0, 20, (2, 5)), "{embed: 6}"),
            (nn.MaxPool2d(3, stride=2, padding=1), picture, "{max_pool: 3, stride: 2, pad: 1}"),
            (nn.MaxPool1d(2), series, "{max_pool1d: 2}"),
            (nn.AvgPool2d((3, 3)), picture, "{avg_pool: 3}"),
            (nn.AvgPool1d(3, stride=1), series, "{avg_pool1d: 3, stride: 1}"),
            (nn.AdaptiveAvgPool2d((1, 1)), picture, "{avg_pool: 0}"),
            (nn.AdaptiveAvgPool1d(1), series, "{avg_pool1d: 0}"),
            (nn.ReLU(inplace=True), picture, "relu"), (nn.Tanh(), picture, "tanh"), (nn.Sigmoid(), picture, "sigmoid"),
            (nn.GELU(), picture, "gelu"), (nn.Flatten(), picture, "flatten"),
            (nn.Dropout(0.5), picture, "{dropout: 0.5}"),
            (nn.GroupNorm(2, 4), picture, "{group_norm: 2}"), (nn.LayerNorm(12), series, "layer_norm")):
        for p in module.parameters():
            nn.init.normal_(p)
        torch.save(nn.Sequential(module), FOLDER / "one.pt")
        rc, text = script("from-torch.py", FOLDER / "one.pt", FOLDER / "one")
        assert rc == 0, text
        assert (FOLDER / "one.yaml").read_text().splitlines()[-1] == "    - " + line, line
        rc, text = script("from-torch.py", "--back", FOLDER / "one.yaml", FOLDER / "one.safetensors", FOLDER / "two.pt")
        if "needs PyYAML" in text:
            return
        assert rc == 0, text
        again = torch.load(FOLDER / "two.pt").eval()
        assert torch.equal(again(x.clone()), module.eval()(x.clone())), line


def check_refused_modules() -> None:
    for module, words in (
            (nn.Linear(2, 2), "of type Linear; an nn.Sequential is needed"),
            ({"0.weight": torch.ones(2)}, "of type dict; an nn.Sequential is needed"),
            (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3)), "module 1 (BatchNorm1d) has no counterpart"),
            (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), "kernel_size is (3, 5)"),
            (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "padding is 'same'"),
            (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "groups is 2; only 1"),
            (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2)), "dilation is (2, 2); only 1"),
            (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode is True"),
            (nn.Sequential(nn.AvgPool2d(2, count_include_pad=False)), "count_include_pad is False"),
            (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "output_size is 2; only 1"),
            (nn.Sequential(nn.GroupNorm(2, 4, affine=False)), "affine is False"),
            (nn.Sequential(nn.LayerNorm([2, 3])), "normalized_shape is (2, 3)"),
            (nn.Sequential(nn.GELU(approximate="tanh")), "approximate is 'tanh'"),
            (nn.Sequential(nn.Flatten(2)), "start_dim is 2"),
            (nn.Sequential(nn.Embedding(4, 2, padding_idx=0)), "padding_idx is 0")):
        torch.save(module, FOLDER / "one.pt")
        rc, text = script("from-torch.py", FOLDER / "one.pt", FOLDER / "refused")
        assert rc == 2 and words in text, (words, text)
    (FOLDER / "noise.pt").write_bytes(b"noise")
    for words, expected in ((["absent.pt", "out"], "absent.pt"), ([FOLDER / "noise.pt", "out"], "cannot be loaded"),
                            (["one"], "three files are expected with --back, else two")):
        rc, text = script("from-torch.py", *words)
        assert rc == 2 and expected in text, (words, text)
    assert not (FOLDER / "refused.yaml").exists()


def check_refused_layers() -> None:
    try:
        import yaml  # noqa: F401
    except ImportError:
        return
    safetensors_file.write(str(FOLDER / "few.safetensors"), {"0.weight": np.ones((2, 3), np.float32)})
    (FOLDER / "noise.safetensors").write_bytes(b"noise")
    for text, weights, words in (
            ("model: {name: lenet}", "few", "has no model.layers"),
            ("[]", "few", "has no model.layers"),
            ("a: [", "few", "is no configuration"),
            ("model: {layers: [{dense: 2}, {add: -1}]}", "few", "layer 1, add, has no counterpart"),
            ("model: {layers: [{dense: 2, from: -1}]}", "few", "layer 0, dense, does not follow"),
            ("model: {layers: [{dense: 2, name: fc}]}", "few", "there is no weight 'fc.weight'"),
            ("model: {layers: [{dense: 2}]}", "few", "Missing key(s) in state_dict: \"0.bias\""),
            ("model: {layers: [{dense: 2}]}", "noise", "is no safetensors file")):
        (FOLDER / "few.yaml").write_text(text)
        rc, said = script("from-torch.py", "--back", FOLDER / "few.yaml", FOLDER / f"{weights}.safetensors",
                          FOLDER / "never.pt")
        assert rc == 2 and words in said, (words, said)
    assert not (FOLDER / "never.pt").exists()


SCRIPTS = {name: load(name) for name in ("to-safetensors.py", "from-torch.py") if torch or name != "from-torch.py"}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    check_good()
    check_bad()
    if torch:
        check_there_and_back()
        check_every_module()
        check_refused_modules()
        check_refused_layers()
    else:
        print("skipped: from-torch.py, torch is not installed")
    print("arrays become data sets that fedlane reads, models of PyTorch give the same answers in it, and what cannot "
          "be converted is refused")


if __name__ == "__main__":
    main()
