"""Stored results of networks over sequences; make_golden.py runs this too."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from tensors import write


class Attention(nn.Module):
    """Attention both ways over features with learnt positions, a norm, and a dense layer a step."""

    def __init__(self, features, heads, steps, k):
        super().__init__()
        self.position = nn.Embedding(steps, features)
        self.self_attn = nn.MultiheadAttention(features, heads, batch_first=True)
        self.norm = nn.LayerNorm(features)
        self.fc = nn.Linear(features, k)

    def forward(self, x):
        x = x + self.position.weight
        return self.fc(self.norm(x + self.self_attn(x, x, x)[0]))


class Transformer(nn.Module):
    """The network of models/transformer_lm.c with every width divided by `narrow`; dropout is off.
    Its modules are called as pfl-research calls them."""

    def __init__(self, tokens, narrow=1):
        super().__init__()
        width = 96 // narrow
        self._embeddings = nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(width, 8, 1536 // narrow, 0.0, batch_first=True)
        self._transformer_encoder = nn.TransformerEncoder(layer, 3)

    def forward(self, x):
        x = self._embeddings(x)
        x = x * math.sqrt(x.shape[2]) + waves(x.shape[1], x.shape[2])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self._transformer_encoder(x, later) @ self._embeddings.weight.t()


def waves(steps, width):
    """Pairs of a sine and a cosine, each pair slower than the one before."""
    pace = 10000.0 ** (-torch.arange(0, width, 2).double() / width)
    angle = torch.arange(steps).double()[:, None] * pace
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)


def dump(name, model, x, k):
    """Labels a step; about a quarter of them count for nothing and are -1."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.MultiheadAttention):
            nn.init.uniform_(module.in_proj_bias, -0.5, 0.5)
            nn.init.uniform_(module.out_proj.bias, -0.5, 0.5)
    model.float().double()
    label = torch.randint(k, x.shape[:2])
    label[torch.rand(label.shape) < 0.25] = -1
    z = model(x)
    loss = F.cross_entropy(z.flatten(0, 1), label.flatten(), ignore_index=-1, reduction="sum") / len(x)
    loss.backward()
    tensors = {"x": x.double(), "label": label, "output": z, "loss": loss.reshape(1)}
    for key, p in model.named_parameters():
        tensors[f"weight/{key}"], tensors[f"grad/{key}"] = p, p.grad
    write(name, {key: t.detach().numpy() for key, t in tensors.items()})


def main():
    torch.manual_seed(3)
    assert sum(p.numel() for p in Transformer(10004).parameters()) == 1962912
    dump("attention", Attention(6, 2, 5, 4), torch.randn(4, 5, 6).float().double(), 4)
    dump("transformer_lm", Transformer(11, 12), torch.randint(11, (4, 7)), 11)


if __name__ == "__main__":
    main()
