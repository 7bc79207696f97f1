"""Maps with gates held beside other methods, on small vision transformers of six designs, five trainings of each.

The networks, pictures and measures are those of evidence/frozen_layer.py. The others:

- camlib's Grad-CAM, HiResCAM and LayerCAM, at the layer that camlib takes, and at the layer of each network where they
  point best, which favours them
- gradient × input, integrated gradients of the pixels and of the stem's output (captum, 20 steps from a gray picture),
  DeepLift (captum), summed over the channels and the 8 × 8 pixels of a patch
- attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928), and the attention weighted with its gradient (Chefer, Gur
  & Wolf 2021, arXiv 2103.15679, equations 5 and 6), from attention weights that are computed anew
- LeGrad (torch-cam) on a copy with PyTorch's own attention layers, which it needs; Grad-CAM of the package grad-cam

Costs are ratios to the bare forward pass, in processor time of one thread, medians of rounds in which all take turns.
Run it from the repository: python -m evidence.frozen_beside_others
"""

import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import MethodType
from typing import Any

import timm
import torch
from captum import attr
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.methods import LeGrad
from torchvision import models
from tqdm import tqdm

from camlib import shapes
from camlib.errors import first_line
from camlib.forward_pass import run_forward
from camlib.frozen import frozen_map, replayed
from camlib.gradcam import frozen_cam, grad_cam
from camlib.layers import FeatureLayer, locate
from camlib.methods import METHODS
from camlib.transformer import GRID, HEADS, WIDTH, Attention, VisionTransformer, WindowAttention, roll, windows
from evidence.frozen_layer import MEASURES, PATCH, Referee, arguments, baselines, places, spread, trained, versions

OUT = Path(__file__).with_suffix(".json")
STEPS, SLOW = 20, 100
"""Steps of integrated gradients, and for how many of the pictures we take them."""
FAMILY = ("grad_cam", "hires_cam", "layer_cam")


@dataclass
class Found:
    """Maps (B, h, w) of one method. rest: what to add to a map's sum to get the logit, if the method has a sum."""

    maps: Tensor
    rest: Tensor | None = None
    layer: str | None = None


Explain = Callable[[VisionTransformer, Tensor, Tensor], Found]


# --- with camlib -----------------------------------------------------------------------------------------------------


def frozen(net: VisionTransformer, x: Tensor, labels: Tensor, place: FeatureLayer | None = None) -> Found:
    """At camlib's own choice of layer, unless it is given."""
    ran = run_forward(net, x, place, hold=True)
    maps = frozen_map(ran, labels.tolist())
    rest = ran.rest.gather(1, labels[:, None])[:, 0]
    return Found(maps / maps[0].numel(), rest, ran.layer.layer)


def family(net: VisionTransformer, x: Tensor, labels: Tensor) -> Iterator[tuple[str, Found]]:
    """Grad-CAM, HiResCAM and LayerCAM at each layer: (method, maps) pairs. The first are at the layer camlib takes."""
    for name, place in {"": locate(net, x), **places(net)}.items():
        ran = run_forward(net, x, place)
        A, G = ran.features, ran.gradient(labels.tolist())
        for method in FAMILY if G.any() else ():
            yield method, Found(METHODS[method].formula(A, G).detach(), layer=name or place.layer)


# --- from the pixels -------------------------------------------------------------------------------------------------


def by_patch(pixels: Tensor) -> Tensor:
    """The sum over the channels and the pixels of each patch: (B, C, 64, 64) -> (B, 8, 8)."""
    return F.avg_pool2d(pixels.detach().float().sum(1, keepdim=True), PATCH)[:, 0] * PATCH**2


def gradient_x_input(net: nn.Module, x: Tensor, labels: Tensor) -> Found:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).gather(1, labels[:, None]).sum(), x)
    return Found(by_patch(gradient * x))


def of_gray(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The logits of a gray picture, which is 0 after normalisation: (B,)."""
    with torch.no_grad():
        return net(torch.zeros_like(x[:1]))[0][labels]


def integrated(net: nn.Module, x: Tensor, labels: Tensor) -> Found:
    """Integrated gradients of the pixels."""
    found = attr.IntegratedGradients(net).attribute(x, 0 * x, labels, n_steps=STEPS, internal_batch_size=100)
    return Found(by_patch(found), of_gray(net, x, labels))


def integrated_at_stem(net: VisionTransformer, x: Tensor, labels: Tensor) -> Found:
    """Integrated gradients of the stem's output."""
    explainer = attr.LayerIntegratedGradients(net, net.stem)
    found = explainer.attribute(x, 0 * x, labels, n_steps=STEPS, internal_batch_size=100)
    return Found(found.detach().sum(1), of_gray(net, x, labels), "stem")


def deep_lift(net: nn.Module, x: Tensor, labels: Tensor) -> Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it sets hooks
        found = attr.DeepLift(copy.deepcopy(net)).attribute(x, 0 * x, labels)
    return Found(by_patch(found), of_gray(net, x, labels))


def lrp(net: nn.Module, x: Tensor, labels: Tensor) -> Found:
    return Found(by_patch(attr.LRP(copy.deepcopy(net)).attribute(x, labels)))


# --- from attention --------------------------------------------------------------------------------------------------


def attend(self: Attention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """`Attention.attend` with the weights computed and kept in the open."""
    q, k, v = self.qkv(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
    self.weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(3)
    return self.proj((self.weights @ v).transpose(1, 2).flatten(2))


def opened(net: VisionTransformer) -> VisionTransformer:
    """A copy that keeps its attention weights in `net.blocks[k].attn.weights`."""
    net = copy.deepcopy(net)
    for block in net.blocks:
        block.attn.attend = MethodType(attend, block.attn)
    return net


def between_all(attention: Attention, weights: Tensor) -> Tensor:
    """Weights inside windows (B · 4, heads, 16, 16) as weights between all tokens (B, heads, 64, 64)."""
    if not isinstance(attention, WindowAttention):
        return weights
    tokens = windows(roll(torch.arange(GRID**2)[None, :, None], -attention.shift))[:, :, 0]  # (4, 16)
    result = weights.new_zeros(len(weights) // len(tokens), HEADS, GRID**2, GRID**2)
    for inside, part in zip(tokens, weights.unflatten(0, (-1, len(tokens))).unbind(1), strict=True):
        result[:, :, inside[:, None], inside] = part
    return result


def read_by_head(net: VisionTransformer, flow: Tensor) -> Tensor:
    """What the head reads of the flow (B, tokens, tokens) from the patches: (B, 8, 8)."""
    rows = flow[:, : min(net.extra, 1 + (net.head_dist is not None)) or None]  # class tokens, or all
    return rows.mean(1)[:, net.extra :].unflatten(1, (GRID, GRID))


def rolled(weights: list[Tensor]) -> Tensor:
    """Attention rollout, from weights between all tokens (B, heads, tokens, tokens): (B, tokens, tokens)."""
    own = torch.eye(weights[0].shape[-1])
    flow = own
    for part in weights:
        flow = (part.mean(1) + own) / 2 @ flow
    return flow


def rolled_with_gradients(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Chefer, Gur & Wolf, equations 5 and 6, without the tokens themselves: (B, tokens, tokens)."""
    own = torch.eye(weights[0].shape[-1])
    flow = own.repeat(len(weights[0]), 1, 1)
    for part, gradient in zip(weights, gradients, strict=True):
        flow = flow + (gradient * part.detach()).clamp(min=0).mean(1) @ flow
    return flow - own


def rollout(net: VisionTransformer, x: Tensor, labels: Tensor) -> Found:
    """The same map for each class."""
    net = opened(net)
    with torch.no_grad():
        net(x)
    return Found(read_by_head(net, rolled([between_all(b.attn, b.attn.weights) for b in net.blocks])))


def gradient_attention(net: VisionTransformer, x: Tensor, labels: Tensor) -> Found:
    net = opened(net)
    own = net(x).gather(1, labels[:, None]).sum()
    weights = [block.attn.weights for block in net.blocks]
    gradients = torch.autograd.grad(own, weights)
    full = [
        [between_all(b.attn, t.detach()) for b, t in zip(net.blocks, ts, strict=True)] for ts in (weights, gradients)
    ]
    return Found(read_by_head(net, rolled_with_gradients(*full)))


class WithTorchAttention(nn.Module):
    """A block with `nn.MultiheadAttention`, as LeGrad wants it. It computes the same."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.self_attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        names = {"in_proj_weight": block.attn.qkv.weight, "in_proj_bias": block.attn.qkv.bias}
        names |= {"out_proj.weight": block.attn.proj.weight, "out_proj.bias": block.attn.proj.bias}
        self.self_attention.load_state_dict(names)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attention(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


def legrad(net: VisionTransformer, x: Tensor, labels: Tensor, read: str) -> Found:
    """read: which tokens show what each block knows, "all", torch-cam's choice, or "class", the head's own choice."""
    if any(isinstance(block.attn, WindowAttention) for block in net.blocks):
        raise TypeError("nn.MultiheadAttention has no windows")
    net = copy.deepcopy(net)
    net.blocks = nn.Sequential(*(WithTorchAttention(block) for block in net.blocks)).eval()
    tokens = 1 if read == "class" and net.extra else None

    def project(x: Tensor) -> Tensor:
        return net.head(net.norm(x[:, :tokens].mean(1)))

    with LeGrad(net, list(net.blocks), score_projection=project, prefix_tokens=net.extra) as explainer:
        scores = net(x)
        maps = explainer(labels.tolist(), scores, normalized=False)
    return Found(torch.stack([m.detach() for m in maps]).mean(0))


def grad_cam_package(net: VisionTransformer, x: Tensor, labels: Tensor) -> Found:
    """At the last block's first norm, as its documentation advises for vision transformers."""

    def reshape(tokens: Tensor) -> Tensor:
        return tokens[:, net.extra :].transpose(1, 2).unflatten(2, (GRID, GRID))

    with GradCAM(net, [net.blocks[-1].norm1], reshape_transform=reshape) as explainer:
        maps = explainer(x, [ClassifierOutputTarget(k) for k in labels.tolist()])
    return Found(torch.as_tensor(maps), layer=f"blocks.{len(net.blocks) - 1}.norm1")


METHODS_HERE: dict[str, list[Explain]] = {
    "frozen": [frozen],
    f"frozen, first {SLOW} pictures": [frozen],
    "grad-cam package's Grad-CAM": [grad_cam_package],
    "gradient x input": [gradient_x_input],
    "integrated gradients": [integrated],
    "integrated gradients at the stem": [integrated_at_stem],
    "captum DeepLift": [deep_lift],
    "captum LRP": [lrp],
    "attention rollout": [rollout],
    "attention x gradient": [gradient_attention],
    "torch-cam LeGrad": [partial(legrad, read="all"), partial(legrad, read="class")],
}
"""Where there are several, the one that points best in a network is reported."""


# --- the study -------------------------------------------------------------------------------------------------------


def judged(found: Found, referee: Referee, logits: Tensor) -> dict[str, Any]:
    """The measures of one method's maps, of the first pictures if there are fewer than logits."""
    row: dict[str, Any] = referee.judge(found.maps)
    if found.layer:
        row["layer"] = found.layer
    if len(found.maps) < len(logits):
        row["pictures"] = len(found.maps)
    if found.rest is not None:
        logits = logits[: len(found.maps)]
        miss = (found.maps.sum((1, 2)) + found.rest - logits).abs() / logits.abs()
        row |= {
            "miss_of_logit": float(f"{float(miss.median()):.1e}"),
            "largest_miss": float(f"{float(miss.max()):.1e}"),
        }
    return row


def study(net: VisionTransformer, data: shapes.Pictures, patches: int) -> dict[str, Any]:
    """All methods on one network: name -> measures, or the error that a method raises."""
    x, labels = shapes.centred(data.images), data.labels
    referee = Referee(net, data, patches)
    with torch.no_grad():
        logits = net(x).gather(1, labels[:, None])[:, 0]
    rows: dict[str, Any] = {}
    for name, ways in METHODS_HERE.items():
        n = SLOW if "pictures" in name or "integrated" in name else len(x)
        try:
            results = [judged(way(net, x[:n], labels[:n]), referee, logits) for way in ways]
            rows[name] = max(results, key=lambda row: row["pointing"])
        except Exception as e:  # the table says what any of them raises
            rows[name] = {"error": f"{type(e).__name__}: {first_line(e)}"}
    for k, (method, found) in enumerate(family(net, x, labels)):
        row, best = judged(found, referee, logits), f"{method}, best layer"
        if k < len(FAMILY):
            rows[f"{method}, camlib's layer"] = row
        elif best not in rows or row["pointing"] > rows[best]["pointing"]:
            rows[best] = row
        if found.layer == "stem":
            rows[f"{method}, stem"] = row
    return rows | baselines(referee, data)


def summary(trainings: dict[str, Any]) -> dict[str, Any]:
    """Mean and range over the trainings of a design, for each method and measure."""
    result: dict[str, Any] = {}
    for design, runs in trainings.items():
        rows = list(runs.values())
        for name in rows[0] if rows else ():
            got = [row[name] for row in rows if "error" not in row[name]]
            result.setdefault(design, {})[name] = (
                {m: spread([g[m] for g in got]) for m in (*MEASURES, "miss_of_logit") if m in got[0]}
                if got
                else rows[0][name]
            )
    return result


def findings(trainings: dict[str, Any]) -> list[str]:
    """In how many trainings of each design the maps with gates held are better than those of each other method."""
    texts = []
    names = list(dict.fromkeys(name for runs in trainings.values() for run in runs.values() for name in run))
    for name in (n for n in names if not n.startswith(("frozen", "uniform"))):
        own = f"frozen, first {SLOW} pictures" if "integrated" in name else "frozen"
        pairs = {d: [(run[own], run[name]) for run in runs.values()] for d, runs in trainings.items()}
        errors = {d: ps[0][1]["error"] for d, ps in pairs.items() if "error" in ps[0][1]}
        pairs = {d: ps for d, ps in pairs.items() if d not in errors}
        counts = []
        for measure in MEASURES if pairs else ():
            won = {d: sum(ours[measure] > theirs[measure] for ours, theirs in ps) for d, ps in pairs.items()}
            each = ", ".join(f"{d} {won[d]} of {len(ps)}" for d, ps in pairs.items())
            total = sum(map(len, pairs.values()))
            detail = f" ({each})" if sum(won.values()) < total else ""
            counts.append(f"{measure} in {sum(won.values())} of {total}{detail}")
        if counts:
            texts.append(f"frozen is better than {name} by {'; '.join(counts)}.")
        for text in dict.fromkeys(errors.values()):
            texts.append(f"{name} cannot run on {', '.join(d for d in errors if errors[d] == text)}: {text}")
    return texts


# --- the cost --------------------------------------------------------------------------------------------------------


def taking_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median processor time of each, in seconds. What took long at first has a turn in every third round."""
    times: dict[str, list[float]] = {name: [] for name in ways}

    def take(way: Callable[[], Any]) -> float:
        start = time.process_time()
        way()
        return time.process_time() - start

    first = {name: take(way) for name, way in ways.items()}
    slow = {name for name, seconds in first.items() if seconds > 8 * min(first.values())}
    for turn in tqdm(range(rounds), unit="round", leave=False):
        for name, way in ways.items():
            if turn % 3 == 0 or name not in slow:
                times[name].append(take(way))
    return {name: median(values) for name, values in times.items()}


def common_ways(net: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """What runs on any network; the first is the bare forward pass."""
    place, last, label = locate(net, x, before_attention=True), locate(net, x), torch.tensor([3])
    ran = run_forward(net, x, place, hold=True)

    def bare() -> Tensor:
        with torch.no_grad():
            return net(x)

    return {
        "bare forward pass": bare,
        "bare forward pass again": bare,
        "frozen": lambda: frozen_cam(net, x, 3, place),
        "frozen, layer by name": lambda: frozen_cam(net, x, 3, place.layer),
        "frozen, layer not given": lambda: frozen_cam(net, x, 3),
        "part of frozen: recorded forward and replay": lambda: run_forward(net, x, place, hold=True),
        "part of frozen: replay": lambda: replayed(net, x, place, None, ran.value, ran.gates),
        "part of frozen: backward": lambda: ran.raw_gradient([3]),
        "grad_cam": lambda: grad_cam(net, x, 3, last),
        "gradient x input": lambda: gradient_of_input(net, x, label),
        "integrated gradients": lambda: attr.IntegratedGradients(net).attribute(
            x, 0 * x, 3, n_steps=STEPS, internal_batch_size=1
        ),
    }


def gradient_of_input(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x).gather(1, labels[:, None]).sum(), x)[0] * x


def timm_ways(net: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """What looks at the attention of timm's vision transformers, and Grad-CAM of the package grad-cam."""
    open_net, weights = copy.deepcopy(net), []
    for block in open_net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, args, value: weights.append(value))

    def with_weights() -> Tensor:
        weights.clear()
        return open_net(x)[0, 3]

    def only_rolled() -> Tensor:
        with torch.no_grad():
            with_weights()
            return rolled(weights)

    def with_gradients() -> Tensor:
        own = with_weights()
        return rolled_with_gradients(weights, list(torch.autograd.grad(own, weights)))

    def package() -> Any:
        reshape = partial(torch.reshape, shape=(1, 14, 14, -1))
        with GradCAM(
            net, [net.blocks[-1].norm1], lambda tokens: reshape(tokens[:, 1:]).permute(0, 3, 1, 2)
        ) as explainer:
            return explainer(x, [ClassifierOutputTarget(3)])

    return {
        "attention rollout": only_rolled,
        "attention x gradient": with_gradients,
        "grad-cam package's Grad-CAM": package,
        "captum DeepLift": lambda: attr.DeepLift(net).attribute(x, 0 * x, 3),
    }


def legrad_ways(net: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """LeGrad on torchvision's vision transformers, all blocks."""

    def run() -> Any:
        with LeGrad(net, list(net.encoder.layers)) as explainer:
            return explainer(3, net(x))

    return {"torch-cam LeGrad": run}


COSTLY: dict[str, tuple[Callable[[], nn.Module], Callable | None]] = {
    "timm vit_tiny_patch16_224": (lambda: timm.create_model("vit_tiny_patch16_224"), timm_ways),
    "torchvision resnet18": (models.resnet18, None),
    "torchvision vit_b_32": (models.vit_b_32, legrad_ways),
}
"""Networks with random weights, at 224 pixels and batch 1."""


def cost(name: str, rounds: int) -> dict[str, Any]:
    """Ratios to the bare forward pass, and what the three parts of a map with gates held take of it."""
    build, more = COSTLY[name]
    torch.manual_seed(0)
    net, x = build().eval(), torch.randn(1, 3, 224, 224)
    for m in net.modules():
        if isinstance(m, nn.Linear) and not m.weight.any():  # as in torchvision's vision transformers before training
            nn.init.normal_(m.weight, std=0.02)
    ways = common_ways(net, x)
    if name.endswith("vit_b_32"):
        ways = {key: ways[key] for key in ("bare forward pass", "bare forward pass again", "frozen")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        seconds = taking_turns(ways | (more(net, x) if more else {}), rounds)
    bare = seconds["bare forward pass"]
    row = {
        "default_layer": locate(net, x, before_attention=True).layer,
        "bare_ms": round(1000 * bare, 1),
        "ratios": {key: round(value / bare, 2) for key, value in seconds.items()},
    }
    parts = {key[16:]: value for key, value in seconds.items() if key.startswith("part of frozen: ")}
    if parts:
        parts["recorded forward"] = parts.pop("recorded forward and replay") - parts["replay"]
        row["shares"] = {key: round(value / sum(parts.values()), 3) for key, value in parts.items()}
    return row


def packages() -> dict[str, str]:
    return versions() | {name: version(name) for name in ("captum", "grad-cam", "torchcam")}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the timing; 0: none (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure also what the stored result already holds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out or OUT
    table = json.loads(out.read_text(encoding="utf-8")) if out.exists() and not options.again else {}
    table = {
        "versions": packages(),
        "threads": 1,
        "pictures": f"camlib.shapes.pictures({options.pictures}, seed=9), the true class of each",
        "pictures_for_deletion": options.patches,
        "cost_is": "processor time, as a ratio to the bare forward pass, 224 pixels, batch 1, one thread",
        "findings": [],
        "summary": {},
        "cost": table.get("cost", {}),
        "trainings": table.get("trainings", {}),
    }
    for name in COSTLY if options.rounds else ():
        table["cost"][name] = cost(name, options.rounds)
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    data = shapes.pictures(options.pictures, seed=9)
    jobs = [(d, s) for s in options.seeds for d in options.designs if str(s) not in table["trainings"].get(d, {})]
    for design, seed in (bar := tqdm(jobs, unit="network")):
        bar.set_postfix_str(f"{design} {seed}")
        row = study(trained(design, seed, options.weights), data, options.patches)
        table["trainings"].setdefault(design, {})[str(seed)] = row
        table["summary"], table["findings"] = summary(table["trainings"]), findings(table["trainings"])
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
