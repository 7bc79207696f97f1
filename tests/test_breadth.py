"""Which networks have an exact map: all 80 of torchvision's classifiers, and 56 of timm's, by value alone.

By default one network of each kind is run; `pytest -m long tests/test_breadth.py` runs the rest (ten minutes).
Weights are random: a head is a matter of structure. Seen with torchvision 0.29.2 and timm 1.0.31.
"""

import pytest
import timm
import torch
from torchvision import models

from camlib import HeadError, explain, find_head
from camlib.models import load_model
from tests.networks import randomise
from tests.test_heads import check

EXACT = {  # (layer, activation after it, normalisation between pooling and classifier): networks
    ("features", "identity", "classifier.0"): "convnext_tiny convnext_small convnext_base convnext_large",
    ("features", "relu", None): "densenet121 densenet161 densenet169 densenet201",
    ("features", "identity", None): "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
    "efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l "
    "mobilenet_v2",
    ("inception5b", "identity", None): "googlenet",
    ("Mixed_7c", "identity", None): "inception_v3",
    ("layers", "identity", None): "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
    ("trunk_output", "identity", None): "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf "
    "regnet_y_16gf regnet_y_32gf regnet_y_128gf regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf "
    "regnet_x_8gf regnet_x_16gf regnet_x_32gf",
    ("layer4", "identity", None): "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d "
    "resnext101_64x4d wide_resnet50_2 wide_resnet101_2",
    ("conv5", "identity", None): "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
    ("classifier.2", "identity", None): "squeezenet1_1 squeezenet1_0",
    ("permute", "identity", None): "swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b",
}
REFUSED = {  # what the error names: networks
    r"Linear \(classifier.1\), ReLU \(classifier.2\), Linear \(classifier.4\)": "alexnet",
    r"LayerNorm \(classifier.2\), Linear \(classifier.3\), Tanh \(classifier.4\)": "maxvit_t",
    r"Linear \(classifier.0\), Hardswish \(classifier.1\)": "mobilenet_v3_small mobilenet_v3_large",
    r"Linear \(classifier.0\), ReLU \(classifier.1\), Linear \(classifier.3\), ReLU": "vgg11 vgg13 vgg16 vgg19 "
    "vgg11_bn vgg13_bn vgg16_bn vgg19_bn",
    "reads the class token of encoder": "vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14",
}
TIMM = {  # (layer, normalisation): networks
    ("layer4", None): "resnet50d resnest14d seresnet50 ecaresnet26t res2net50_26w_4s skresnet18",
    ("bn2", None): "tf_efficientnet_b0 mixnet_s mobilenetv2_100 efficientnetv2_rw_t tinynet_e fbnetc_100 mnasnet_100 "
    "spnasnet_100 tf_efficientnet_lite0",
    (
        "final_conv",
        None,
    ): "regnety_002 regnetx_002 mobilevit_xxs mobilevitv2_050 repvgg_a0 fastvit_t8 mobileone_s0 gernet_s",
    ("features", None): "rexnet_100 densenet121 dpn68 inception_v4",
    ("level5", None): "dla34",
    ("final_layer", None): "hrnet_w18_small",
    ("norm_pre", "head.norm"): "convnext_atto convnext_nano convnextv2_atto edgenext_xx_small davit_tiny rdnet_tiny",
    ("stages", "head.norm"): "poolformer_s12 poolformerv2_s12",
    ("final_act", None): "nfnet_f0 dm_nfnet_f0",
    ("body", None): "tresnet_m",
    ("stages", None): "cspresnet50 cspdarknet53 vovnet39a ese_vovnet19b_dw pvt_v2_b0",
    ("act", None): "xception41",
    ("conv2d_7b", None): "inception_resnet_v2",
    (
        "norm",
        None,
    ): "coatnet_nano_rw_224 maxvit_nano_rw_256 swin_tiny_patch4_window7_224 focalnet_tiny_srf visformer_tiny "
    "starnet_s1 nextvit_small",
    ("blocks", None): "convmixer_768_32",
    ("head", None): "selecsls42b",
}
TIMM_REFUSED = (  # two layers in the head, or a class token
    "mobilenetv3_small_100 ghostnet_100 hgnet_tiny inception_next_tiny lcnet_050 hardcorenas_a repghostnet_050 "
    "mambaout_femto caformer_s18 deit_tiny_patch16_224 mixer_s32_224 twins_pcpvt_small xcit_nano_12_p16_224"
)
SIDES = {"inception_v3": 160, "maxvit_t": 224, "vit": 224, "swin_tiny": 224, "coatnet": 224, "maxvit_nano": 256}
SIDES |= {"focalnet": 224, "deit": 224, "mixer": 224, "twins": 224, "xcit": 224, "visformer": 224}


def by_name(table):
    """(name, expected) of every network; all but the first of each kind belong to the long run."""
    cases = []
    for expected, names in table.items():
        for n, name in enumerate(names.split()):
            cases.append(pytest.param(name, expected, id=name, marks=[pytest.mark.long] if n else []))
    return cases


def of_torchvision(name):
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    return randomise(models.get_model(name, weights=None, **options)).eval()


def of_timm(name):
    torch.manual_seed(0)
    net = randomise(timm.create_model(name, pretrained=False)).eval()
    if name.startswith("visformer"):  # its random attention mixes all positions, so that none are left to find
        with torch.no_grad():
            for path, p in net.named_parameters():
                p.mul_(0.1 if "attn.proj" in path else 1)
    return net


def noise(name, side=96):
    side = next((s for start, s in SIDES.items() if name.startswith(start)), side)
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_the_tables_are_complete():
    listed = " ".join([*EXACT.values(), *REFUSED.values()]).split()
    assert sorted(listed) == sorted(models.list_models(module=models))
    assert len(" ".join(EXACT.values()).split()) == 63
    assert len(" ".join(TIMM.values()).split()) == 56


@pytest.mark.parametrize(("name", "expected"), by_name(EXACT))
def test_torchvision(name, expected):
    head = check(of_torchvision(name), noise(name))
    assert (head.layer, head.activation, head.norm) == expected
    assert head.of_this_photo == name.startswith("convnext")


@pytest.mark.parametrize(("name", "says"), by_name(REFUSED))
def test_torchvision_refused(name, says):
    with pytest.raises(HeadError, match=says):
        find_head(of_torchvision(name), noise(name))


@pytest.mark.parametrize(("name", "expected"), by_name(TIMM))
def test_timm(name, expected):
    head = check(of_timm(name), noise(name, 160))
    assert (head.layer, head.norm) == expected


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) for n in TIMM_REFUSED.split()])
def test_timm_refused_and_explained_by_grad_cam(name):
    net, side = of_timm(name), noise(name, 160).shape[-1]
    with pytest.raises(HeadError):
        find_head(net, noise(name, 160))
    photo = (torch.rand(side, side, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    cells = explain(load_model(net, size=side), photo, method="grad_cam").map(3)
    assert cells.numel() > 1
    assert torch.isfinite(cells).all()
