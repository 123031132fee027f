#!/usr/bin/env python3
"""A device gives the CPU's curve on the first rounds of examples/fashion_mnist.yaml.

check_curve.py PROGRAM FOLDER [DEVICE]: trains the example for two rounds of three clients with PROGRAM
(fedlane) on the CPU and on DEVICE (cuda-on-host) in fp32, and compares loss and accuracy of both rounds, on
the clients' examples and on 100 of the test set.

Which pixel of a window is the largest, and whether a relu is open, can hang on the last bit of a sum, and
backends add in different orders. One such decision moves what is learned by far more than the bit did. So the
CPU also trains from starts whose weights are changed in their last bit at random: what that does to a figure
is how well it is determined at all. The device has to stay within three times the largest such change, and
so a CPU that learns at a rate one thousandth too high must not.
Exit status 77 when the data are not installed (Debian's dataset-fashion-mnist).
"""
import array
import gzip
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
EXAMPLE = pathlib.Path(__file__).resolve().parent.parent / "examples" / "fashion_mnist.yaml"
KEYS = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
TESTED, NUDGED, ROOM = 100, 12, 3
ROUNDING = 1e-6  # of a figure: sums of fp32 in another order, without any decision


def shorten_data(folder):
    """The example's data, with the first TESTED of the test examples."""
    for kind, head, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
        raw = gzip.decompress((DATA / f"t10k-{kind}-ubyte.gz").read_bytes())
        raw = raw[:4] + struct.pack(">I", TESTED) + raw[8:head + TESTED * size]
        (folder / f"t10k-{kind}-ubyte").write_bytes(raw)
        (folder / f"train-{kind}-ubyte.gz").symlink_to(DATA / f"train-{kind}-ubyte.gz")


def train(program, folder, name, *settings):
    """The curve: a dict a round."""
    command = [program, "run", EXAMPLE, f"data.path={folder}", f"output={folder / name}", "eval.every=1",
               "train.cohort=3", "train.rounds=2", "checkpoint.every=0", *settings]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    curve = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    print(f"{name:12}", *(f"{r[k]:11.7f}" for r in curve for k in KEYS), flush=True)
    return curve


def nudge(source, target, seed):
    """Writes the weights of source with -1, 0 or 1 added to the last place of each that is not 0."""
    raw = source.read_bytes()
    head = 8 + struct.unpack("<Q", raw[:8])[0]
    bits, draw = array.array("I"), random.Random(seed)
    bits.frombytes(raw[head:])
    moved = array.array("I", (b + draw.choice((-1, 0, 1)) if b & 0x7fffffff else b for b in bits))
    target.write_bytes(raw[:head] + moved.tobytes())


def far(curve, cpu, nudged):
    """The figures of a curve that are further from the CPU's than they may be, as sentences."""
    out = []
    for i, (mine, right) in enumerate(zip(curve, cpu)):
        for key in KEYS:
            one = {"train_accuracy": 1 / right["examples"], "test_accuracy": 1 / TESTED}.get(key, 0)
            least = max(ROUNDING * right[key], one)
            may = max(least, ROOM * max(abs(n[i][key] - right[key]) for n in nudged))
            if not abs(mine[key] - right[key]) <= may * (1 + 1e-9):
                out.append(f"round {i + 1}, {key}: {mine[key]} for {right[key]}, by more than {may:.2g}")
    return out


def main(program, folder, device="cuda-on-host"):
    if not DATA.is_dir():
        print(f"skipped: there is no {DATA}")
        return 77
    folder = pathlib.Path(folder).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shorten_data(folder)
    # A step of 1e-30 leaves every weight as it was.
    train(program, folder, "start", "device=cpu", "train.rounds=1", "train.cohort=1", "train.lr=1e-30")
    start = folder / "start" / "model.safetensors"
    from_start = f"model.weights={start}"
    cpu = train(program, folder, "cpu", "device=cpu", from_start)
    nudged = []
    for seed in range(NUDGED):
        nudge(start, folder / "nudged.safetensors", seed)
        nudged.append(train(program, folder, f"nudged-{seed}", "device=cpu",
                            f"model.weights={folder / 'nudged.safetensors'}"))
    faster = train(program, folder, "faster", "device=cpu", from_start, "train.lr=0.1001")
    mine = train(program, folder, device, f"device={device}", "precision=fp32", from_start)
    wrong = far(mine, cpu, nudged)
    if not any(f.startswith("round 1, train_loss") for f in far(faster, cpu, nudged)):
        wrong.append("a learning rate of 0.1001 for 0.1 is not noticed in the first round's loss")
    print("\n".join(wrong) or f"{device} gives the CPU's curve, as far as the last bit of the start fixes it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
