#!/usr/bin/env python3
"""PyTorch loads a run's model.safetensors by name and gives the same answers.

check_torch.py PROGRAM FOLDER: runs PROGRAM (fedlane) on a small synthetic set with cnn_dropout in FOLDER,
loads the model into a torch module whose attributes are called conv1, conv2, fc1 and fc2, strictly, and
compares its loss and accuracy on the test examples with those that fedlane wrote to metrics.jsonl; then,
for logits, it perturbs one example at a time and compares single losses.
Exit status 77 when torch is not installed.
"""
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys

try:
    import torch
    from torch import nn
except ImportError:
    print("skipped: torch is not installed")
    sys.exit(77)

TYPES = {"F32": torch.float32, "U8": torch.uint8, "I32": torch.int32, "I64": torch.int64}


def read(path):
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + size + begin:8 + size + end])
        out[name] = torch.frombuffer(raw, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
    return out


def write(path, tensors):
    header, blobs, at = {}, [], 0
    names = {v: k for k, v in TYPES.items()}
    for name, t in tensors.items():
        raw = t.contiguous().numpy().tobytes()
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.fc1, self.fc2 = nn.Linear(64 * 4 * 4, 128), nn.Linear(128, 4)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


def train(program, folder, x_test, y_test, rounds, tag, *more):
    """Runs fedlane with these test examples and returns its last metrics and weights."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(120, 1, 12, 12, generator=g), torch.randint(0, 4, (120,), generator=g)
    write(folder / "set.safetensors", {"x": x, "y": y.int(), "x_test": x_test, "y_test": y_test.int()})
    config = folder / "check.yaml"
    config.write_text(
        f"data: {{format: safetensors, path: {folder}/set.safetensors, partition: {{kind: iid, clients: 6}}}}\n"
        "model: {name: cnn_dropout}\n"
        f"train: {{rounds: {rounds}, cohort: 4, batch: 8, lr: 0.05}}\n")
    out = folder / tag
    subprocess.run([program, "run", str(config), f"output={out}", "--quiet", *more], check=True)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return last, out / "model.safetensors"


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 1, 12, 12, generator=g), torch.randint(0, 4, (50,), generator=g)
    last, model = train(program, folder, x, y, 2, "run")
    net = Net().eval()
    net.load_state_dict(read(model), strict=True)
    logits = net(x)
    loss = nn.functional.cross_entropy(logits, y).item()
    accuracy = (logits.argmax(1) == y).float().mean().item()
    assert math.isclose(loss, last["test_loss"], rel_tol=1e-4), (loss, last)
    assert abs(accuracy - last["test_accuracy"]) < 1e-6, (accuracy, last)
    # One test example: its loss under each label is log-sum-exp minus that logit, so four losses of
    # the same weights give the logits themselves up to a constant, which cross-entropy cannot see.
    log_p = torch.log_softmax(logits[:1], 1)[0]
    for label in range(4):
        y1 = torch.tensor([label])
        # Round 0 of training is impossible, so the weights start from the model with a vanishing rate.
        one, _ = train(program, folder, x[:1], y1, 1, f"label{label}", f"model.weights={model}", "train.lr=1e-30")
        assert math.isclose(-log_p[label].item(), one["test_loss"], rel_tol=1e-4, abs_tol=1e-5), (label, log_p, one)
    print("PyTorch loads the model by name and agrees: loss %.6f and %.6f, log-probabilities of one example "
          "to 1e-4" % (loss, last["test_loss"]))


if __name__ == "__main__":
    main()
