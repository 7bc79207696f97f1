"""Small vision transformers for the generated pictures: one class, six designs, in plain PyTorch.

Every design starts with a few convolutions, the layer "stem": (B, 3, 64, 64) -> (B, 48, 8, 8). Each cell of that map
becomes a token. Attention blocks let the tokens exchange information, and a linear head computes the logits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import CamError

__all__ = ["VisionTransformer"]
CLASSES = 5
DESIGNS = ("token", "mean", "registers", "distilled", "windows", "hybrid")
WIDTH, HEADS = 48, 3  # numbers per token; parts into which attention divides them
GRID = 8  # tokens along each side of the map: 64 pixels, halved three times
WINDOW, SHIFT = 4, 2  # of the design "windows", in tokens
EXTRA = {"token": 1, "registers": 1 + 4, "distilled": 2}  # tokens in front of the 64 of the picture
DEPTH = {"windows": 4, "hybrid": 2}  # blocks; the other designs have three


class Attention(nn.Module):
    """Multi-head self-attention: each token takes a weighted mean of the values of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: True where the row's token may attend to the column's token."""
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)  # (B, heads, tokens, 16)
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class WindowAttention(Attention):
    """Attention inside windows of 4x4 tokens, moved right and down by `shift` tokens, as in a Swin transformer."""

    mask: Tensor

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        # Rolling brings opposite borders of the map together in one window. The mask keeps them apart.
        wrapped = torch.arange(GRID) + shift >= GRID
        part = windows((2 * wrapped[:, None] + wrapped).reshape(1, GRID * GRID, 1))  # (4 windows, 16, 1)
        self.register_buffer("mask", (part == part.transpose(1, 2))[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = windows(roll(x, -self.shift))
        x = self.attend(x, self.mask.repeat(len(x) // len(self.mask), 1, 1, 1) if self.shift else None)
        return roll(unwindows(x), self.shift)


def roll(x: Tensor, by: int) -> Tensor:
    """Move the map of tokens (B, 64, width) down and right; what leaves at one border comes in at the opposite one."""
    return x.unflatten(1, (GRID, GRID)).roll((by, by), (1, 2)).flatten(1, 2)


def windows(x: Tensor) -> Tensor:
    """(B, 64, width) -> (B * 4, 16, width)"""
    n = GRID // WINDOW
    return x.unflatten(1, (n, WINDOW, n, WINDOW)).transpose(2, 3).flatten(3, 4).flatten(0, 2)


def unwindows(x: Tensor) -> Tensor:
    """(B * 4, 16, width) -> (B, 64, width)"""
    n = GRID // WINDOW
    return x.unflatten(1, (WINDOW, WINDOW)).unflatten(0, (-1, n, n)).transpose(2, 3).flatten(1, 4)


class Block(nn.Module):
    """A pre-norm transformer block: attention between the tokens, then an MLP on each token, both added."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = attention
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def conv(inside: int, outside: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias, batch norm and ReLU."""
    layer = nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False)
    return [layer, nn.BatchNorm2d(outside), nn.ReLU()]


class VisionTransformer(nn.Module):
    """An untrained transformer with five logits. The caller's random numbers are not affected.

    Parameters
    ----------
    design
        "token": a class token collects the evidence and the head reads it. "mean": the head reads the mean of all
        tokens. "registers": a class token, and four more tokens as extra memory. "distilled": a class token and a
        distillation token, with a head each, whose logits are averaged. "windows": attention inside windows of 4 × 4
        tokens, shifted by two in every second block, then the mean. "hybrid": more convolutions, fewer blocks, then the
        mean.
    seed
        Of the weights.

    Raises
    ------
    CamError
        For another design.

    Examples
    --------
    >>> VisionTransformer("mean")(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 5])
    """

    def __init__(self, design: str = "token", seed: int = 0) -> None:
        super().__init__()
        if design not in DESIGNS:
            raise CamError(f"design={design!r}: must be one of {', '.join(map(repr, DESIGNS))}.")
        self.extra = EXTRA.get(design, 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            more = design == "hybrid"
            front = [*conv(3, 16, 5, stride=2), nn.MaxPool2d(2)]
            front += [*conv(16, 32), *(conv(32, 32) if more else []), nn.MaxPool2d(2)]
            front += [*conv(32, WIDTH), *(conv(WIDTH, WIDTH) if more else [])]
            self.stem = nn.Sequential(*front)
            self.position = nn.Parameter(0.02 * torch.randn(1, GRID * GRID, WIDTH))
            self.tokens = nn.Parameter(0.02 * torch.randn(1, self.extra, WIDTH)) if self.extra else None
            self.blocks = nn.Sequential(
                *(
                    Block(WindowAttention(SHIFT * (k % 2)) if design == "windows" else Attention())
                    for k in range(DEPTH.get(design, 3))
                )
            )
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, CLASSES)
            self.head_dist = nn.Linear(WIDTH, CLASSES) if design == "distilled" else None

    def forward(self, x: Tensor) -> Tensor:
        """The logits.

        Parameters
        ----------
        x : (B, 3, 64, 64)

        Returns
        -------
        logits : (B, 5)
        """
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position  # (B, 64, width)
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x))
        if self.head_dist is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return self.head(x[:, 0] if self.extra else x.mean(1))
