"""camlib's maps against torch-cam's CAM, where that works: layers named by hand, and not stretched to 0..1."""

import pytest
import torch
from torchcam.methods import CAM

from camlib import find_head
from tests.test_heads import build

X = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "layer", "fc"), [("resnet18", "layer4", "fc"), ("mobilenet_v2", "features", "classifier.1")]
)
def test_same_map(name, layer, fc):
    net = build(name).eval()
    head = find_head(net, X)
    features, logits = head.run(net, X)
    maps = torch.einsum("kc,bchw->bkhw", head.weight, features)
    with CAM(net, target_layer=layer, fc_layer=fc) as extractor:
        for k in [*logits[0].topk(2).indices.tolist(), int(logits[0].argmin())]:
            (theirs,) = extractor(k, net(X), normalized=False)
            torch.testing.assert_close(theirs[0], maps[0, k], atol=1e-5, rtol=1e-5)
    assert maps[0, k].min() < 0, "a sign that got lost would be seen"


def test_same_map_on_the_bundled_network(clf, cat):
    from camlib import explain

    exp = explain(clf, cat)
    x = clf.preprocess(cat, clf.view(cat))
    with CAM(clf.module, target_layer=exp.layer, fc_layer=clf.head.classifier) as extractor:
        for k in (282, int(exp.logits.argmin())):
            (theirs,) = extractor(k, clf.module(x), normalized=False)
            torch.testing.assert_close(theirs[0], exp.map(k), atol=1e-5, rtol=1e-5)
    assert exp.map(k).min() < 0, "a sign that got lost would be seen"
