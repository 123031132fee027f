#!/usr/bin/env python3
"""Writes the small files of the suite `hdf5` with h5py, in the layouts of TensorFlow Federated and pfl-research."""
import os
import sys

import h5py
import numpy as np

FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))


def create(name):
    return h5py.File(os.path.join(FOLDER, name), "w", libver="latest")


def pixels(client, n, shape, dtype):
    size = int(np.prod(shape))
    values = (np.arange(n * size) * 7 + client) % 256
    values = values.reshape((n, *shape))
    return values.astype(dtype) if dtype == np.uint8 else (values / 255).astype(dtype)


def emnist(name, clients):
    with create(name) as f:
        for c, n in enumerate(clients):
            g = f.create_group(f"examples/f{c:04d}_{c}")
            g.create_dataset("pixels", data=pixels(c, n, (28, 28), np.float32), compression="gzip")
            g["label"] = np.array([(10 * c + i) % 62 for i in range(n)], np.int32)


def cifar(name, clients):
    with create(name) as f:
        for c, n in enumerate(clients):
            g = f.create_group(f"examples/{c}")
            g.create_dataset("image", data=pixels(c, n, (32, 32, 3), np.uint8), compression="gzip")
            g["label"] = np.array([(30 * c + i) % 100 for i in range(n)], np.int64)
            g["coarse_label"] = np.array([i % 20 for i in range(n)], np.int64)


def texts(name, array, clients):
    with create(name) as f:
        for c, lines in clients.items():
            f.create_group(f"examples/{c}").create_dataset(array, data=lines, dtype=h5py.string_dtype())


def pfl_words():
    with create("stackoverflow.hdf5") as f:
        f["metadata/vocabulary_size"] = 9
        f["metadata/unk_symbol"] = 6
        f["metadata/pad_symbol"] = 0
        for split, users in {"train": 2, "val": 1, "test": 1}.items():
            for u in range(users):
                both = np.array([[7, 1 + u, 2, 3, 8], [7, 4, 8, 0, 0]], np.int32)
                f[f"{split}/{u}/inputs"] = both[:, :-1]
                f[f"{split}/{u}/targets"] = both[:, 1:]


def flair():
    with create("flair.hdf5") as f:
        for split, users in {"train": ("ann", "bob"), "val": ("cyd",)}.items():
            for u, user in enumerate(users):
                g = f.create_group(f"{split}/{user}")
                g.create_dataset("images", data=pixels(u, 2, (4, 4, 3), np.uint8))
                g["image_ids"] = np.array([1, 2])
                g["labels_row"] = np.array([0, 0, 1], np.uint16)
                g["labels_col"] = np.array([u, 16, 3], np.uint8)


emnist("fed_emnist_train.h5", (2, 3))
emnist("fed_emnist_test.h5", (1, 1))
cifar("fed_cifar100_train.h5", (2, 1))
cifar("fed_cifar100_test.h5", (1,))
plays = {"THE_TRAGEDY_KING": ["dhl", "Now\nis~"], "ALL_S_WELL_COUNTESS": ["In delivering my son from me, I bury a second husband."]}
texts("shakespeare_train.h5", "snippets", plays)
texts("shakespeare_test.h5", "snippets", {"THE_TRAGEDY_KING": ["d"]})
posts = {"00000001": ["how do i sort a list", "the list is sorted ."], "00000002": ["a"]}
texts("stackoverflow_train.h5", "tokens", posts)
texts("stackoverflow_test.h5", "tokens", {"00000009": ["the list"]})
with open(os.path.join(FOLDER, "stackoverflow.word_count"), "w") as f:
    f.write("the 30\na 20\nlist 11\nis 9\nhow 8\ni 7\n")
pfl_words()
flair()
