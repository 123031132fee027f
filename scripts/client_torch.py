#!/usr/bin/env python3
"""As client.py, with PyTorch: joins a coordinator as one client that trains a module of your own.

    client_torch.py ADDRESS DATA.npz [the options of client.py]

The module's parameters have the names of the coordinator's layout, so `load_state_dict` takes the model as
it comes. This one is `model: {layers: [flatten, {dense: 64, name: fc1}, relu, {dense: 0, name: fc2}]}`.
"""
import client
import numpy as np

try:
    import torch
    from torch import nn
except ImportError:
    raise SystemExit("client_torch.py: it needs PyTorch: pip install torch, or Debian's python3-torch")


class Net(nn.Module):
    def __init__(self, features, hidden, classes):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(features, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def with_torch(make, x, y, seed):
    """A `train` for client.take_part: SGD on the module that make(model) builds."""
    x, y, order = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), torch.Generator().manual_seed(seed)

    def train(model, work):
        net, loss, hits, steps = make(model), 0.0, 0, 0
        net.load_state_dict({name: torch.from_numpy(a) for name, a in model.items()})
        step = torch.optim.SGD(net.parameters(), lr=work["lr"])
        for _ in range(work["epochs"]):
            for rows in torch.randperm(len(x), generator=order).split(work["batch"] or len(x)):
                z = net(x[rows])
                mean = nn.functional.cross_entropy(z, y[rows])
                step.zero_grad()
                mean.backward()
                step.step()
                loss, hits, steps = loss + mean.item() * len(rows), hits + (z.argmax(1) == y[rows]).sum().item(), steps + 1
        for name, value in net.state_dict().items():
            model[name][...] = value.numpy()
        return loss, hits, steps

    return train


if __name__ == "__main__":
    args = client.arguments("joins a fedlane coordinator as a client that trains a module with PyTorch")
    features, labels = client.examples_of(args.data)

    def make(model):
        return Net(features.shape[1], len(model["fc1.bias"]), len(model["fc2.bias"]))

    client.take_part(client.Session(args.address, args.name, args.key, args.server), len(features),
                     with_torch(make, features, labels, args.seed), args.payload)
