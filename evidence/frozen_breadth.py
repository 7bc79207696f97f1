"""Does the frozen map sum to the logit in other people's networks? All 80 of torchvision, and each family of timm.

For each network: find the layer, record a pass with its gates held, replay it for an empty feature map, and compare
the sum of G · A plus the rest with the logit, in float32 and in float64. In many networks little but a linear head
follows that layer, so we do the same for the first convolution, which has the whole network behind it ("first").
Weights are random, because the sum is a matter of structure. Run it from the repository:
python -m evidence.frozen_breadth
"""

import argparse
import gc
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision import models
from tqdm import tqdm

from camlib.errors import LayerError, first_line
from camlib.forward_pass import run_forward
from camlib.frozen import frozen_map
from camlib.layers import FeatureLayer, locate
from tests.networks import randomise

OUT = Path(__file__).with_suffix(".json")
SEED = 0
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""The largest miss that counts as exact, relative to what is summed."""
SIDE = 160
"""The side of the input in pixels, unless a network needs another one."""
SIDES = {"maxvit_t": 224, "vit": 224, "timm/deepseek": 154, "timm/halonet": 256}
"""Other sides, by the start of the network's name; timm knows those of its networks with a fixed size."""
OPTIONS: dict[str, dict[str, Any]] = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
PATIENCE = 20
"""Seconds of CPU time for finding the layer: random weights may leave hardly a trace of the photo to find it by."""
LAYERS = {
    "efficientnet": "features",
    "inception_v3": "Mixed_7c",
    "timm/convmixer": "blocks",
    "timm/gemma4": "encoder.patch_embed.input_proj",
    "timm/inception_v3": "Mixed_7c",
    "timm/inception_v4": "features",
}
"""Layers to use then, by the start of the name; the first convolution for any other."""
FIRST = {
    "timm/gemma4": "encoder.patch_embed.input_proj",
    "timm/naflexvit": "embeds.proj",
    "timm/tnt": "pixel_embed.unfold",
}
"""Layers in place of the first convolution, where there is none or where it sees pieces of the photo."""
FLOAT32_ONLY: tuple[str, ...] = ()
"""Networks that are too large for float64 here."""
TIMM = """
beit_base_patch16_224 halonet_h1 eca_botnext26ts_256 lambda_resnet26t test_byobnet mobileone_s0 repvgg_a0 gernet_s
cait_xxs24_224 coat_tiny coat_lite_tiny convit_tiny convmixer_768_32 test_convnext convnext_zepto_rms convnext_atto
convnextv2_atto cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspresnet50 cspnext_tiny davit_tiny
deepseek_vit_412m deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 densenet121 dla46x_c dla34 dpn48b dpn68
edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet test_efficientnet_gn test_efficientnet_ln
test_efficientnet_evos mobilenetv2_035 tf_efficientnet_b0 mixnet_s efficientvim_m1 efficientvit_b0 efficientvit_m0
vit_tiny_patch16_dinov3_qkvb eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 fastvit_sa12 focalnet_tiny_srf gcvit_xxtiny
gemma4_vit_167m ghostnet_050 ghostnetv2_100 hardcorenas_a hgnetv2_b0 hiera_tiny_224 hieradet_small hrnet_w18_small
iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s levit_conv_128s
lowformer_b0 test_mambaout mambaout_femto test_coatnet test_maxvit coatnet_nano_cc_224 poolformer_s12 poolformerv2_s12
caformer_s18 convformer_s18 gmlp_ti16_224 gmixer_12_224 resmlp_12_224 mixer_s32_224 mobilenetv3_small_050 lcnet_035
mobilenetv4_conv_small_035 mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny naflexvit_base_patch16_gap
naflexvit_base_patch16_map nasnetalarge nest_tiny nextvit_small test_nfnet nf_regnet_b0 dm_nfnet_f0 pit_ti_224
pnasnet5large pvt_v2_b0 pvt_v2_b2_li qwen3_vit_88m rdnet_tiny regnetx_002 regnety_002 repghostnet_050 repvit_m0_9
res2next50 resnest14d test_resnet resnet10t ecaresnet26t resnetblur18 resnetv2_18 resnetv2_50x1_bit rexnet_100
selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m
twins_svt_small twins_pcpvt_small vgg11 visformer_tiny test_vit test_vit2 test_vit3 test_vit4 vit_tiny_patch16_224
vit_tiny_r_s16_p8_224 test_vit_relpos vit_srelpos_small_patch16_224 samvit_base_patch16_224 vitamin_small_224
volo_d1_224 ese_vovnet19b_slim_dw ese_vovnet39b_evos legacy_xception xception41 xcit_nano_12_p16_224
"""
"""The cheapest of each family, besides timm's own miniatures, and others that differ from it."""


def names() -> list[str]:
    """The names of all networks, those of timm as "timm/NAME"."""
    return [*models.list_models(module=models), *(f"timm/{name}" for name in TIMM.split())]


def family(name: str) -> str:
    """The module of timm or torchvision that a network comes from."""
    builder = timm.model_entrypoint(name[5:]) if name.startswith("timm/") else models.get_model_builder(name)
    return builder.__module__.split(".")[-1]


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights in evaluation mode, and a random input (1, 3, side, side)."""
    torch.manual_seed(SEED)
    options = OPTIONS.get(name, {})
    if name.startswith("timm/"):
        net = timm.create_model(name[5:], pretrained=False, **options)
        fixed = net.pretrained_cfg.get("fixed_input_size")
        side = net.pretrained_cfg["input_size"][-1] if fixed else starting(SIDES, name, SIDE)
    else:
        net, side = models.get_model(name, weights=None, **options), starting(SIDES, name, SIDE)
    net = calibrate(randomise(net).eval(), side)
    return net, noise(1, side)


def starting(table: dict[str, Any], name: str, default: Any) -> Any:
    """What a table has for names that start as this one does."""
    return next((value for start, value in table.items() if name.startswith(start)), default)


def noise(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(SEED + batch))


def calibrate(net: nn.Module, side: int) -> nn.Module:
    """Set the statistics of batch normalisation to those of a batch, so that numbers neither vanish nor explode."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.train().momentum = 1.0
    if norms:
        with torch.no_grad():
            net(noise(4, side))
    for m, momentum in zip(norms, momenta, strict=True):
        m.eval().momentum = momentum
    return net


class TooLong(BaseException):
    """Not an `Exception`, which camlib would take for the network's own."""


def find(net: nn.Module, x: Tensor) -> FeatureLayer | None:
    """The layer that camlib takes by default; None if it finds none, or if that takes too long."""

    def give_up(*_: Any) -> NoReturn:
        raise TooLong

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        return locate(net, x, before_attention=True)
    except (LayerError, TooLong):
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def measure(net: nn.Module, x: Tensor, layer: FeatureLayer | str, k: int) -> dict[str, Any]:
    """The logit of class k, the sum of its map, the rest, and by how much they miss the logit; or why there is none."""
    try:
        ran = run_forward(net, x, layer, hold=True)
    except LayerError as e:  # it names the operations that are not held
        return {"refused": first_line(e)}
    parts = ran.cells(ran.value) * ran.cells(ran.raw_gradient([k]))
    on_map, rest, logit = (float(t.detach()) for t in (parts.sum(), ran.rest[0, k], ran.graph[0, k]))
    miss, summed = abs(on_map + rest - logit), float(parts.abs().sum()) + abs(rest)
    measured = {
        "logit": logit,
        "map": on_map,
        "rest": rest,
        "miss_of_logit": miss / abs(logit) if logit else float("inf"),
        "miss_of_summed": miss / summed if summed else float("inf"),
        "gates_bytes": ran.gates.nbytes(),
    }
    if ran.gates.dtype.itemsize < x.dtype.itemsize:  # a network that computes some of it in float32 in any case
        measured["coarsest"] = str(ran.gates.dtype).removeprefix("torch.")
    try:
        frozen_map(ran, [k])
    except LayerError as e:
        measured["refused"] = first_line(e)
    return measured


def run(name: str) -> dict[str, Any]:
    """The row of one network."""
    start = time.perf_counter()
    row: dict[str, Any] = {"family": family(name)}
    try:
        net, x = build(name)
        row |= {"side": x.shape[-1], "parameters": sum(p.numel() for p in net.parameters())}
        convolutions = (path for path, m in net.named_modules() if isinstance(m, nn.Conv2d))
        first = starting(FIRST, name, next(convolutions, None))
        layer = find(net, x) or starting(LAYERS, name, first)
        plain = run_forward(net, x, layer)
        k, grid = int(plain.scores[0].abs().argmax()), list(plain.features.shape[2:])
        row |= {"layer": plain.layer.layer, "named": isinstance(layer, str), "grid": grid, "class": k}
        del plain
        for kind, dtype in (("float32", torch.float32), ("float64", torch.float64))[: 1 + (name not in FLOAT32_ONLY)]:
            net, x = net.to(dtype), x.to(dtype)
            row[kind] = measure(net, x, layer, k)
            if first is not None:
                same = first == row["layer"]
                row.setdefault("first", {"layer": first})[kind] = row[kind] if same else measure(net, x, first, k)
        row["share"] = row["float32"]["map"] / row["float32"]["logit"]
    except Exception as e:  # the table says what any of them raises
        row["error"] = f"{type(e).__name__}: {first_line(e)}"
    row["exact"] = is_exact(row)
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def sums(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured for a network, with the tolerance of the coarsest type that it computes in."""
    places = (row, row.get("first", {}))
    found = [(kind, place[kind]) for place in places for kind in TOLERANCE if kind in place]
    return [m | {"tolerance": TOLERANCE[m.get("coarsest", kind)]} for kind, m in found]


def is_exact(row: dict[str, Any]) -> bool:
    """Whether all of a network's sums are within their tolerance."""
    measured = sums(row)
    exact = ("refused" not in m and m["miss_of_summed"] <= m["tolerance"] for m in measured)
    return "error" not in row and bool(measured) and all(exact)


def read() -> dict[str, Any]:
    """The table so far."""
    return json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {"networks": {}}


def write(rows: dict[str, Any]) -> None:
    """Add rows to the table: one line for each network."""
    rows = read()["networks"] | rows
    head = {
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "timm": timm.__version__,
        "seed": SEED,
        "tolerance": TOLERANCE,
    }
    start = json.dumps(head, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(rows[name])}" for name in names() if name in rows)
    partial = OUT.with_suffix(f".{os.getpid()}")
    partial.write_text(f'{start},\n "networks": {{\n{lines}\n }}\n}}\n', encoding="utf-8")
    partial.replace(OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as resnet18 or timm/vgg11 (default: all without a row so far)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure also what the stored result already holds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    todo = options.names or [name for name in names() if options.again or name not in read()["networks"]]
    for name in (bar := tqdm(todo, unit="network")):
        bar.set_postfix_str(name)
        row = run(name)
        write({name: row})
        if not row["exact"]:
            bar.write(f"{name}: {row.get('error') or sums(row)}")
        gc.collect()


if __name__ == "__main__":
    main()
