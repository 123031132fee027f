"""The models in PyTorch: attributes are called as in fedlane's files, so weights load by name."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import Work


class SlicedConv(nn.Conv2d):
    """A valid convolution as one matrix product of shifted slices. Under vmap, with weights of its own
    for each client, this becomes a batched product, where Conv2d becomes a grouped convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k, (height, width) = self.kernel_size[0], (n - self.kernel_size[0] + 1 for n in x.shape[2:])
        slices = [x[:, :, i:i + height, j:j + width] for i in range(k) for j in range(k)]
        columns = torch.stack(slices, 2).flatten(3).flatten(1, 2)  # [n, in * k * k, height * width]
        y = self.weight.flatten(1) @ columns + self.bias[:, None]
        return y.unflatten(2, (height, width))


class Logistic(nn.Module):
    def __init__(self, image: tuple[int, ...], classes: int, conv: type[nn.Conv2d]):
        super().__init__()
        self.fc = nn.Linear(int(np.prod(image)), classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


class Mlp(nn.Module):
    def __init__(self, image: tuple[int, ...], classes: int, conv: type[nn.Conv2d]):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(int(np.prod(image)), 200), nn.Linear(200, 200)
        self.fc3 = nn.Linear(200, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class LeNet(nn.Module):
    def __init__(self, image: tuple[int, ...], classes: int, conv: type[nn.Conv2d]):
        super().__init__()
        side = [((n - 4) // 2 - 4) // 2 for n in image[1:]]
        self.conv1, self.conv2 = conv(image[0], 6, 5), conv(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * side[0] * side[1], 120), nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2)).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class CnnDropout(nn.Module):
    def __init__(self, image: tuple[int, ...], classes: int, conv: type[nn.Conv2d]):
        super().__init__()
        side = [(n - 4) // 2 for n in image[1:]]
        self.conv1, self.conv2 = conv(image[0], 32, 3), conv(32, 64, 3)
        self.drop1, self.drop2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(64 * side[0] * side[1], 128), nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv2(F.relu(self.conv1(x))), 2))
        x = self.drop1(x).flatten(1)
        return self.fc2(self.drop2(F.relu(self.fc1(x))))


class Lstm(nn.LSTM):
    """With one bias a gate that is trained; the other one stays zero."""

    def __init__(self, features: int, hidden: int):
        super().__init__(features, hidden, batch_first=True)
        del self.bias_hh_l0
        self.register_buffer("bias_hh_l0", torch.zeros(4 * hidden), persistent=False)
        self._flat_weights = [getattr(self, name) for name in self._flat_weights_names]


class LstmChar(nn.Module):
    def __init__(self, image: tuple[int, ...], classes: int, conv: type[nn.Conv2d]):
        super().__init__()
        self.embed = nn.Embedding(classes, 8)
        self.lstm1, self.lstm2 = Lstm(8, 256), Lstm(256, 256)
        self.fc = nn.Linear(256, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.lstm2(self.lstm1(self.embed(x))[0])[0])


MODELS = {"logistic": Logistic, "mlp": Mlp, "lenet": LeNet, "cnn_dropout": CnnDropout, "lstm_char": LstmChar}
CONVOLUTIONS = {"direct": nn.Conv2d, "slices": SlicedConv}


def build(work: Work, device: str = "cpu", convolution: str = "direct") -> nn.Module:
    """The work's model with its first weights."""
    net = MODELS[work.model](work.image, work.classes, CONVOLUTIONS[convolution])
    net.load_state_dict({name: torch.from_numpy(w) for name, w in work.weights.items()}, strict=True)
    return net.to(device)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


class Data:
    """The work's examples as tensors."""

    def __init__(self, work: Work, device: str = "cpu"):
        def put(a: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(a).to(device)
        self.x, self.y = put(work.x), put(work.y)
        self.x_test, self.y_test = put(work.x_test), put(work.y_test)


def mean_loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Over the labels that count: one an example, or one a step that is not -1."""
    if y.dim() == 1:
        return F.cross_entropy(out, y)
    return F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=-1)


def asked(y: torch.Tensor) -> int | torch.Tensor:
    """How many labels count."""
    return len(y) if y.dim() == 1 else (y >= 0).sum()


def train_client(net: nn.Module, data: Data, work: Work, rows: np.ndarray) -> torch.Tensor:
    """Plain SGD on one client's rows [epochs, n]; returns the sums of losses and of hits."""
    weights = list(net.parameters())
    order = torch.from_numpy(rows).to(data.y.device, torch.int64).reshape(-1)
    x, y, n = data.x[order], data.y[order], rows.shape[1]
    sums = torch.zeros(2, device=y.device)
    for epoch in range(rows.shape[0]):
        for i in range(epoch * n, (epoch + 1) * n, work.batch):
            end = min(i + work.batch, (epoch + 1) * n)
            out, label = net(x[i:end]), y[i:end]
            loss = mean_loss(out, label)
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-work.lr)
                sums[0] += loss.detach() * asked(label)
                sums[1] += (out.argmax(-1) == label).sum()
    return sums


@torch.no_grad()
def test_sums(net: nn.Module, x: torch.Tensor, y: torch.Tensor, batch: int = 500) -> torch.Tensor:
    """The sums of losses and of hits over examples."""
    sums = torch.zeros(2, dtype=torch.float64, device=y.device)
    mode = net.training
    net.eval()
    for i in range(0, len(y), batch):
        out, label = net(x[i:i + batch]), y[i:i + batch]
        sums[0] += mean_loss(out, label).double() * asked(label)
        sums[1] += (out.argmax(-1) == label).sum()
    net.train(mode)
    return sums
