"""Makes the stored results that the golden tests compare with: PyTorch, in double precision.

    python3 tests/golden/make_golden.py

Debian's python3-torch is enough. README.md beside this file says what the files hold.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import make_rounds
from tensors import write


class Chain(nn.Module):
    """Named modules, and a function that walks them."""

    def __init__(self, walk, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.walk = walk

    def forward(self, x):
        return self.walk(self, x)


def conv(i, o, kernel, pad=0):
    return nn.Conv2d(i, o, kernel, padding=pad)


def two_convs(m, x):
    for layer in (m.conv1, m.conv2):
        x = F.max_pool2d(F.relu(layer(x)), 2)
    return x.flatten(1)


def dense_chain(m, x, names):
    for name in names[:-1]:
        x = F.relu(getattr(m, name)(x))
    return getattr(m, names[-1])(x)


def logistic(i, k):
    return Chain(lambda m, x: m.fc(x.flatten(1)), fc=nn.Linear(i, k))


def mlp(i, hidden, k):
    return Chain(
        lambda m, x: dense_chain(m, x.flatten(1), ["fc1", "fc2", "fc3"]),
        fc1=nn.Linear(i, hidden), fc2=nn.Linear(hidden, hidden), fc3=nn.Linear(hidden, k))


def cnn_fedavg(i, flat, a, b, hidden, k):
    return Chain(
        lambda m, x: dense_chain(m, two_convs(m, x), ["fc1", "fc2"]),
        conv1=conv(i, a, 5, 2), conv2=conv(a, b, 5, 2),
        fc1=nn.Linear(b * flat, hidden), fc2=nn.Linear(hidden, k))


def cnn_dropout(i, flat, a, b, hidden, k):
    """With dropout off."""

    def walk(m, x):
        x = F.max_pool2d(F.relu(m.conv2(F.relu(m.conv1(x)))), 2)
        return dense_chain(m, x.flatten(1), ["fc1", "fc2"])

    return Chain(walk, conv1=conv(i, a, 3), conv2=conv(a, b, 3),
                 fc1=nn.Linear(b * flat, hidden), fc2=nn.Linear(hidden, k))


def five_layers(i, flat, a, b, c, d, k):
    """LeNet and FedDyn's network differ in their widths."""
    return Chain(
        lambda m, x: dense_chain(m, two_convs(m, x), ["fc1", "fc2", "fc3"]),
        conv1=conv(i, a, 5), conv2=conv(a, b, 5),
        fc1=nn.Linear(b * flat, c), fc2=nn.Linear(c, d), fc3=nn.Linear(d, k))


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.GroupNorm(2, o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.GroupNorm(2, o)
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(i, o, 1, stride, bias=False), nn.GroupNorm(2, o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    def __init__(self, width, k, stages=4, blocks=2):
        super().__init__()
        self.stages = stages
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.GroupNorm(2, width)
        for stage in range(stages):
            o = width << stage
            first = Block(o if stage == 0 else o // 2, o, 1 if stage == 0 else 2)
            self.add_module(f"layer{stage + 1}", nn.Sequential(
                first, *(Block(o, o, 1) for _ in range(blocks - 1))))
        self.fc = nn.Linear(width << (stages - 1), k)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def smooth():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.GELU(), nn.AvgPool2d(2, padding=1), nn.Conv2d(3, 4, 2, 2),
        nn.Tanh(), nn.Flatten(), nn.Linear(16, 6), nn.Sigmoid(), nn.Linear(6, 3, bias=False))


class Turned(nn.Module):
    """A sequence [steps, features] as Conv1d wants it, or back."""

    def forward(self, x):
        return x.transpose(1, 2)


def flat():
    return nn.Sequential(
        Turned(), nn.Conv1d(3, 6, 3, 2, 1), nn.MaxPool1d(3, 2, 1), nn.Tanh(), nn.Conv1d(6, 16, 2),
        nn.GELU(), nn.AvgPool1d(3), nn.Flatten(), nn.Linear(16, 3))


def columns():
    return nn.Sequential(
        Turned(), nn.Conv1d(2, 4, 3), Turned(), nn.Linear(4, 5), nn.Tanh(), Turned(), nn.Flatten(),
        nn.Linear(25, 3))


def depthwise():
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.GELU(),
        nn.Conv2d(16, 6, 1), nn.Conv2d(6, 6, 2, groups=6, bias=False), nn.Flatten(),
        nn.Linear(36, 3))


def cnn_rul(i, steps, width, hidden, k):
    def walk(m, x):
        x = x.transpose(1, 2)
        for layer in (m.conv1, m.conv2, m.conv3):
            x = F.relu(layer(x))
        return dense_chain(m, x.flatten(1), ["fc1", "fc2"])

    return Chain(walk, conv1=nn.Conv1d(i, width, 5, padding=2),
                 conv2=nn.Conv1d(width, width, 5, padding=2),
                 conv3=nn.Conv1d(width, width, 5, padding=2),
                 fc1=nn.Linear(width * steps, hidden), fc2=nn.Linear(hidden, k))


def pilotnet(k):
    def walk(m, x):
        for layer in (m.conv1, m.conv2, m.conv3, m.conv4, m.conv5):
            x = F.relu(layer(x))
        return dense_chain(m, x.flatten(1), ["fc1", "fc2", "fc3", "fc4"])

    return Chain(walk, conv1=nn.Conv2d(3, 24, 5, 2), conv2=nn.Conv2d(24, 36, 5, 2),
                 conv3=nn.Conv2d(36, 48, 5, 2), conv4=conv(48, 64, 3), conv5=conv(64, 64, 3),
                 fc1=nn.Linear(1152, 100), fc2=nn.Linear(100, 50), fc3=nn.Linear(50, 10),
                 fc4=nn.Linear(10, k))


def mobilenet_small(k):
    chain = [nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.GroupNorm(8, 32), nn.ReLU()]
    width = 32
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)):
        chain += [
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.GroupNorm(8, out), nn.ReLU()]
        width = out
    return nn.Sequential(*chain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, k))


def head():
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))


class Recurrent(nn.Module):
    """Layers by their places in a list: tokens or values, recurrent layers, a dense layer at every
    step or at the last one."""

    def __init__(self, every_step, **layers):
        super().__init__()
        self.every_step = every_step
        for name, layer in layers.items():
            self.add_module(name.lstrip("_"), layer)
            if isinstance(layer, nn.LSTM):  # one bias a gate, as Keras has it
                nn.init.zeros_(layer.bias_hh_l0)
                layer.bias_hh_l0.requires_grad = False

    def forward(self, x):
        *layers, dense = self.children()
        for layer in layers:
            x = layer(x[..., 0].long() if isinstance(layer, nn.Embedding) else x)
            x = x[0] if isinstance(x, tuple) else x
        return dense(x if self.every_step else x[:, -1])


def lstm(tokens, embed, first, second, every_step):
    return Recurrent(every_step, _0=nn.Embedding(tokens, embed),
                     _1=nn.LSTM(embed, first, batch_first=True),
                     _2=nn.LSTM(first, second, batch_first=True), _4=nn.Linear(second, tokens))


def gru(features, hidden, targets):
    return Recurrent(False, _0=nn.GRU(features, hidden, batch_first=True),
                     _2=nn.Linear(hidden, targets))


def word_model(tokens):
    return Recurrent(True, _0=nn.Embedding(tokens, 96), _1=nn.LSTM(96, 670, batch_first=True),
                     _3=nn.Linear(670, 96), _4=nn.Linear(96, tokens))


def check_counts(known):
    for model, count in known:
        parts = [p.numel() for p in model.parameters() if p.requires_grad]
        assert sum(parts) == count, (model, count)


def check_sizes():
    """The parameter counts that tests/test_model.c asserts, counted here by PyTorch."""
    known = [
        (logistic(784, 10), 7850),
        (mlp(784, 200, 10), 199210),
        (cnn_fedavg(1, 49, 32, 64, 512, 10), 1663370),
        (cnn_dropout(3, 196, 32, 64, 128, 10), 1626442),
        (cnn_dropout(1, 144, 32, 64, 128, 10), 1199882),
        (five_layers(3, 25, 6, 16, 120, 84, 10), 62006),
        (five_layers(3, 25, 64, 64, 384, 192, 10), 797962),
        (ResNet(64, 10), 11173962),
        (ResNet(64, 100), 11220132),
        (ResNet(16, 10, 3, 3), 272474),
        (pilotnet(1), 252219),
        (mobilenet_small(43), 291179),
        (cnn_rul(14, 30, 32, 100, 1), 108777),
    ]
    check_counts(known)


def shake_norms(model):
    """Scales and shifts away from 1 and 0, so that their gradients mean something."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


def dump(name, model, shape, rows, outputs, loss="xent", delta=0.0, tokens=0):
    """tokens > 0: x are tokens below it, and each step has a label, of which some do not count."""
    shake_norms(model)
    model.float().double()  # weights that float32 holds exactly
    x = torch.randint(tokens, (rows, *shape)).double() if tokens else torch.randn(rows, *shape).double()
    tensors = {"x": x}
    if tokens:
        tensors["label"] = label = torch.randint(-1, outputs, (rows, shape[0]))
    elif loss == "xent":
        tensors["label"] = label = torch.randint(outputs, (rows,))
    else:
        tensors["target"] = target = torch.randn(rows, outputs).double()
    z = model(x)
    value = {
        "xent": lambda: F.cross_entropy(z.flatten(0, -2), label.flatten(), ignore_index=-1,
                                        reduction="sum") / rows,
        "mse": lambda: F.mse_loss(z, target),
        "huber": lambda: F.huber_loss(z, target, delta=delta),
    }[loss]()
    value.backward()
    tensors["output"], tensors["loss"] = z, value.reshape(1)
    for key, p in model.named_parameters():
        if not p.requires_grad:
            continue
        tensors[f"weight/{key}"], tensors[f"grad/{key}"] = p, p.grad
    write(name, {key: t.detach().numpy() for key, t in tensors.items()})


def dump_windows():
    torch.manual_seed(2)
    dump("flat", flat(), (14, 3), 5, 3)
    dump("columns", columns(), (7, 2), 5, 3)
    dump("depthwise", depthwise(), (2, 7, 6), 5, 3)
    dump("cnn_rul", cnn_rul(3, 9, 4, 12, 1), (9, 3), 5, 1, "mse")
    dump("resnet20_gn", ResNet(2, 10, 3, 3), (3, 8, 8), 4, 10)


def main():
    torch.manual_seed(1)
    np.random.seed(1)
    check_sizes()
    dump("logistic", logistic(18, 5), (2, 3, 3), 6, 5)
    dump("mlp", mlp(36, 20, 10), (1, 6, 6), 6, 10)
    dump("cnn_fedavg", cnn_fedavg(1, 4, 4, 8, 64, 10), (1, 8, 8), 5, 10)
    dump("cnn_dropout", cnn_dropout(3, 9, 4, 8, 16, 10), (3, 10, 10), 5, 10)
    dump("lenet", five_layers(3, 4, 2, 5, 40, 28, 10), (3, 20, 20), 4, 10)
    dump("cnn_feddyn", five_layers(3, 1, 4, 4, 24, 12, 10), (3, 16, 16), 4, 10)
    dump("resnet18_gn", ResNet(2, 10), (3, 8, 8), 4, 10)
    dump("smooth", smooth(), (2, 6, 6), 5, 3)
    dump("mse", head(), (5,), 6, 2, "mse")
    dump("huber", head(), (5,), 6, 2, "huber", 0.5)
    make_rounds.main()
    torch.manual_seed(2)
    check_counts([
        (lstm(90, 8, 256, 256, True), 820522),
        (word_model(10004), 4050748),
        (gru(1, 64, 12), 13644),
        (gru(14, 64, 1), 15425),
    ])
    dump("lstm", lstm(7, 3, 5, 4, True), (6, 1), 4, 7, tokens=7)
    dump("gru", gru(3, 5, 2), (6, 3), 5, 2, "mse")
    dump_windows()


main()
