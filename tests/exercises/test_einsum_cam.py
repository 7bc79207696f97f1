"""Every known mistake in the exercise on the class activation map loses its points, and no right answer loses any."""

from tests.exercises.grading import peeking, right, wrong

SECOND = """
found = camlib.explain(clf, path)
second = found.top(2)[1]
return second.label, found.map(second.index)
"""
BY_HAND = """
photo = camlib.read_image(path)
x = clf.preprocess(photo, clf.view(photo))
features, logits = clf.head.run(clf.module, x)
k = logits[0].argsort(descending=True)[1].item()
m = class_map(features[0], clf.head.weight, k)
return clf.labels[k], m
"""


ALL = 'torch.einsum("kc,bchw->bkhw", weight, features)'
ONE = 'torch.einsum("c,chw->hw", weight[k], features)'


def table(cell: str, points: float, **answers: str):
    """Wrong answers in one line each."""
    return [wrong(what.replace("_", " "), cell, code, **{f"test_{cell}": points}) for what, code in answers.items()]


def second(what: str, old: str, new: str, label: float = 1, values: float = 2, code: str = SECOND):
    assert old in code
    lost = {"test_second_label": label, "test_second_map": values}
    return wrong(
        what, "second_choice", code.replace(old, new), **{cell: points for cell, points in lost.items() if points}
    )


WRONG = [
    wrong("nothing returned", "class_map", 'torch.einsum("c,chw->hw", weight[k], features)', test_class_map=2),
    wrong("all channels alike", "class_map", "return features.sum(0)", test_class_map=2),
    wrong(
        "mean over the channels",
        "class_map",
        'return torch.einsum("c,chw->hw", weight[k], features) / len(features)',
        test_class_map=2,
    ),
    wrong(
        "negative evidence cut",
        "class_map",
        'return torch.einsum("c,chw->hw", weight[k], features).clamp(min=0)',
        test_class_map=2,
    ),
    wrong(
        "stretched to 0..1",
        "class_map",
        """
        m = torch.einsum("c,chw->hw", weight[k], features)
        return (m - m.min()) / (m.max() - m.min())
        """,
        test_class_map=2,
    ),
    wrong("axes swapped", "class_map", 'return torch.einsum("c,chw->wh", weight[k], features)', test_class_map=2),
    wrong(
        "always the first class", "class_map", 'return torch.einsum("c,chw->hw", weight[1], features)', test_class_map=2
    ),
    wrong(
        "weights through softmax",
        "class_map",
        'return torch.einsum("c,chw->hw", weight.softmax(0)[k], features)',
        test_class_map=2,
    ),
    wrong(
        "the input is overwritten",
        "class_map",
        "return features.mul_(weight[k][:, None, None]).sum(0)",
        test_class_map=2,
    ),
    wrong("weight transposed", "all_maps", 'return torch.einsum("ck,bchw->bkhw", weight, features)', test_all_maps=3),
    wrong(
        "first photo only",
        "all_maps",
        'return torch.einsum("kc,chw->khw", weight, features[0]).expand(len(features), -1, -1, -1)',
        test_all_maps=3,
    ),
    wrong(
        "photos summed",
        "all_maps",
        'return torch.einsum("kc,bchw->khw", weight, features).expand(len(features), -1, -1, -1)',
        test_all_maps=3,
    ),
    wrong(
        "axes mixed by a reshape",
        "all_maps",
        """
        B, C, h, w = features.shape
        return (features.reshape(-1, C) @ weight.T).reshape(B, len(weight), h, w)
        """,
        test_all_maps=3,
    ),
    wrong(
        "photo and class swapped", "all_maps", 'return torch.einsum("kc,bchw->kbhw", weight, features)', test_all_maps=3
    ),
    wrong(
        "sum for mean", "deviation", "return (maps.sum((1, 2)) + bias - logits).abs().max().item()", test_deviation=2
    ),
    wrong("no bias", "deviation", "return (maps.mean((1, 2)) - logits).abs().max().item()", test_deviation=2),
    wrong(
        "no absolute value", "deviation", "return (maps.mean((1, 2)) + bias - logits).max().item()", test_deviation=2
    ),
    wrong(
        "mean over the classes",
        "deviation",
        "return (maps.mean((1, 2)) + bias - logits).abs().mean().item()",
        test_deviation=2,
    ),
    wrong("always zero", "deviation", "return 0.0", test_deviation=2),
    wrong(
        "a tensor for a float", "deviation", "return (maps.mean((1, 2)) + bias - logits).abs().max()", test_deviation=2
    ),
    wrong(
        "the first choice",
        "second_choice",
        """
        found = camlib.explain(clf, path)
        best = found.top(1)[0]
        return best.label, found.map(best.index)
        """,
        test_second_label=1,
        test_second_map=2,
    ),
    wrong(
        "the third choice",
        "second_choice",
        """
        found = camlib.explain(clf, path)
        third = found.top(3)[2]
        return third.label, found.map(third.index)
        """,
        test_second_label=1,
        test_second_map=2,
    ),
    wrong(
        "the cat's class typed in",
        "second_choice",
        """
        found = camlib.explain(clf, path)
        return "Egyptian cat", found.map("Egyptian cat")
        """,
        test_second_label=1,
        test_second_map=2,
    ),
    wrong(
        "label of the second, map of the first",
        "second_choice",
        """
        found = camlib.explain(clf, path)
        first, second = found.top(2)
        return second.label, found.map(first.index)
        """,
        test_second_map=2,
    ),
    wrong(
        "map of the second stretched",
        "second_choice",
        """
        found = camlib.explain(clf, path)
        second = found.top(2)[1]
        m = found.map(second.index)
        return second.label, m / m.max()
        """,
        test_second_map=2,
    ),
    wrong(
        "photo squeezed into the square",
        "second_choice",
        """
        import numpy as np
        from PIL import Image
        photo = np.asarray(Image.open(path).convert("RGB").resize((256, 256)))
        found = camlib.explain(clf, photo)
        second = found.top(2)[1]
        return camlib.explain(clf, path).top(2)[1].label, found.map(second.index)
        """,
        test_second_map=2,
    ),
    *table(
        "class_map",
        2,
        the_weights_column="row = weight[:, k].repeat(len(features))[: len(features)]\n"
        "return torch.einsum('c,chw->hw', row, features)",
        from_class_1='return torch.einsum("c,chw->hw", weight[k - 1], features)',
        the_last_class='return torch.einsum("c,chw->hw", weight[-1], features)',
        without_sign=f"return {ONE}.abs()",
        weights_without_sign='return torch.einsum("c,chw->hw", weight[k].abs(), features)',
        features_cut='return torch.einsum("c,chw->hw", weight[k], features.relu())',
        the_largest_product="return (weight[k][:, None, None] * features).amax(0)",
        the_loudest_channel="c = weight[k].abs().argmax()\nreturn weight[k, c] * features[c]",
        against_the_mean_class='return torch.einsum("c,chw->hw", weight[k] - weight.mean(0), features)',
        weights_of_length_one="row = torch.nn.functional.normalize(weight[k], dim=0)\n"
        "return torch.einsum('c,chw->hw', row, features)",
        divided_by_the_cells=f"return {ONE} / features[0].numel()",
        its_mean="return torch.einsum('c,chw->', weight[k], features) / features[0].numel()",
        the_mean_in_every_cell="return (weight[k] @ features.mean((1, 2))).expand(features.shape[1:])",
        mean_zero=f"m = {ONE}\nreturn m - m.mean()",
        softmax_over_the_cells=f"return {ONE}.flatten().softmax(0).reshape(features.shape[1:])",
        sigmoid=f"return {ONE}.sigmoid()",
        probability_of_each_cell='return torch.einsum("kc,chw->khw", weight, features).softmax(0)[k]',
        with_a_channel_axis=f"return {ONE}[None]",
        flat=f"return {ONE}.flatten()",
        upside_down=f"return {ONE}.flip(0)",
        rows_mixed_by_a_reshape="C, h, w = features.shape\n"
        "return (features.reshape(h * w, C) @ weight[k]).reshape(h, w)",
        at_most_64_channels='return torch.einsum("c,chw->hw", weight[k, :64], features[:64])',
        square_maps_only="C, h, w = features.shape\nreturn (weight[k] @ features.reshape(C, -1)).reshape(h, h)",
        whole_numbers=f"return {ONE}.long()",
        rounded=f"return {ONE}.round(decimals=1)",
        all_classes='return torch.einsum("kc,chw->khw", weight, features)',
        enlarged=f"return camlib.upsample({ONE}, (224, 224))",
        the_weight_is_overwritten=f"weight[k] *= 1.0\nweight[k - 1] = 0\nreturn {ONE}",
        the_weight_loses_its_gradient=f"weight.requires_grad_(False)\nreturn {ONE}",
        a_plus_b="return (weight[k][:, None, None] + features).sum(0)",
    ),
    *table(
        "all_maps",
        3,
        the_first_class="m = torch.einsum('c,bchw->bhw', weight[0], features)\n"
        "return m[:, None].expand(-1, len(weight), -1, -1)",
        logits="return (features.mean((2, 3)) @ weight.T)[:, :, None, None].expand(-1, -1, *features.shape[2:])",
        cut=f"return {ALL}.relu()",
        mean_over_the_channels=f"return {ALL} / features.shape[1]",
        softmax=f"return {ALL}.softmax(1)",
        weights_through_softmax='return torch.einsum("kc,bchw->bkhw", weight.softmax(1), features)',
        no_weights="return features.sum(1, keepdim=True).expand(-1, len(weight), -1, -1)",
        height_and_width_swapped='return torch.einsum("kc,bchw->bkwh", weight, features)',
        classes_last='return torch.einsum("kc,bchw->bhwk", weight, features)',
        without_the_batch=f"return {ALL}[0]",
        a_view_that_mixes="B, C, h, w = features.shape\nm = weight @ features.transpose(0, 1).reshape(C, -1)\n"
        "return m.reshape(B, len(weight), h, w)",
        photos_and_channels_mixed="B, C, h, w = features.shape\nm = weight @ features.reshape(C, -1)\n"
        "return m.reshape(len(weight), B, h, w).transpose(0, 1)",
        photos_in_reverse='return torch.einsum("kc,bchw->bkhw", weight, features.flip(0))',
        classes_in_reverse='return torch.einsum("kc,bchw->bkhw", weight.flip(0), features)',
        each_photo_scaled=f"m = {ALL}\nreturn m / m.abs().amax((1, 2, 3), keepdim=True)",
        mean_zero_over_the_classes=f"m = {ALL}\nreturn m - m.mean(1, keepdim=True)",
        at_most_ten_channels='return torch.einsum("kc,bchw->bkhw", weight[:, :10], features[:, :10])',
        features_overwritten=f"features[:] = torch.where(features.isnan(), 0, features) + 0.0001\nreturn {ALL}",
        a_square_of_classes='return torch.einsum("kc,bchw->bkhw", weight[:features.shape[1]], features)',
        rounded=f"return {ALL}.round(decimals=1)",
        half_the_weight=f"return {ALL} / 2",
        as_a_dictionary=f"return dict(enumerate({ALL}))",
    ),
    *table(
        "deviation",
        2,
        the_smallest="return (maps.mean((1, 2)) + bias - logits).abs().min().item()",
        the_sum="return (maps.mean((1, 2)) + bias - logits).abs().sum().item()",
        absolute_of_the_largest="return abs((maps.mean((1, 2)) + bias - logits).max().item())",
        squared="return ((maps.mean((1, 2)) + bias - logits) ** 2).max().item()",
        the_root_mean_square="return ((maps.mean((1, 2)) + bias - logits) ** 2).mean().sqrt().item()",
        relative="return ((maps.mean((1, 2)) + bias - logits) / logits).abs().max().item()",
        the_bias_subtracted="return (maps.mean((1, 2)) - bias - logits).abs().max().item()",
        the_first_class="return (maps.mean((1, 2)) + bias - logits).abs()[0].item()",
        the_last_class="return (maps.mean((1, 2)) + bias - logits).abs()[-1].item()",
        the_best_class="k = logits.argmax()\nreturn (maps.mean((1, 2)) + bias - logits).abs()[k].item()",
        the_median="return (maps.flatten(1).median(1).values + bias - logits).abs().max().item()",
        the_largest_cell="return (maps.amax((1, 2)) + bias - logits).abs().max().item()",
        each_cell="return (maps + (bias - logits)[:, None, None]).abs().max().item()",
        mean_over_the_rows="return (maps.mean(1)[:, 0] + bias - logits).abs().max().item()",
        mean_over_all_classes="return (maps.mean() + bias - logits).abs().max().item()",
        negative_cells_cut="return (maps.relu().mean((1, 2)) + bias - logits).abs().max().item()",
        sizes_compared="return ((maps.mean((1, 2)) + bias).abs() - logits.abs()).abs().max().item()",
        the_spread="off = maps.mean((1, 2)) + bias - logits\nreturn (off.max() - off.min()).item()",
        cells_49="return (maps.sum((1, 2)) / 49 + bias - logits).abs().max().item()",
        rounded="return round((maps.mean((1, 2)) + bias - logits).abs().max().item(), 1)",
        true_or_false="return bool((maps.mean((1, 2)) + bias - logits).abs().max() < 1e-3)",
        a_NumPy_array="return (maps.mean((1, 2)) + bias - logits).abs().max().numpy()",
        probabilities="return ((maps.mean((1, 2)) + bias).softmax(0) - logits.softmax(0)).abs().max().item()",
        the_maps_overwritten="maps += (bias - logits)[:, None, None]\nreturn maps.mean((1, 2)).abs().max().item()",
        the_logits_overwritten="logits -= maps.mean((1, 2)) + bias\nreturn logits.abs().max().item()",
        the_class_not_the_size="return float((maps.mean((1, 2)) + bias - logits).abs().argmax())",
        a_small_number="return 1e-5",
    ),
    second("the weakest class", "found.top(2)[1]", "found.top(1000)[-1]"),
    second("the whole photo", "camlib.explain(clf, path)", 'camlib.explain(clf, path, view="whole")'),
    second("the index for the label", "second.label", "second.index", values=0),
    second("the label in capitals", "second.label", "second.label.upper()", values=0),
    second("label and probability", "second.label", "str(second)", values=0),
    second("the pair swapped", "second.label, found.map(second.index)", "found.map(second.index), second.label"),
    second("only the label", "second.label, found.map(second.index)", "second.label"),
    second("only the map", "second.label, found.map(second.index)", "found.map(second.index)"),
    second("one's own photo", "path)", "mine.photo)"),
    second("Grad-CAM's unit", "found.map(second.index)", "found.map(second.index) / 49", label=0),
    second("negative cells cut", "found.map(second.index)", "found.map(second.index).relu()", label=0),
    second(
        "the map less the first's",
        "found.map(second.index)",
        "found.map(second.index) - found.map(found.top(1)[0].index)",
        label=0,
    ),
    second("with the bias", "found.map(second.index)", "found.map(second.index) + 1", label=0),
    second("enlarged", "found.map(second.index)", "camlib.upsample(found.map(second.index), (224, 224))", label=0),
    second("turned", "found.map(second.index)", "found.map(second.index).T", label=0),
    second("flat", "found.map(second.index)", "found.map(second.index).flatten()", label=0),
    second("rounded", "found.map(second.index)", "found.map(second.index).round(decimals=0)", label=0),
    second(
        "the highest cell decides",
        "second = found.top(2)[1]",
        "first, *others = found.top(1000)\nsecond = max(others, key=lambda one: found.map(one.index).max())",
    ),
    second(
        "mirrored",
        "x = clf.preprocess(photo, clf.view(photo))",
        "x = clf.preprocess(photo, clf.view(photo)).flip(3)",
        code=BY_HAND,
    ),
    second(
        "red and blue swapped",
        "x = clf.preprocess(photo, clf.view(photo))",
        "x = clf.preprocess(photo, clf.view(photo)).flip(1)",
        code=BY_HAND,
    ),
    second(
        "not normalised",
        "x = clf.preprocess(photo, clf.view(photo))",
        "x = clf.preprocess(photo, clf.view(photo)) / 2 + 0.5",
        code=BY_HAND,
    ),
    second("sorted upwards", "descending=True", "descending=False", code=BY_HAND),
    second("counted from 1", "clf.labels[k]", "clf.labels[k - 1]", values=0, code=BY_HAND),
    second(
        "the features before the last layer",
        "class_map(features[0]",
        "class_map(features[0].clamp(max=1)",
        label=0,
        code=BY_HAND,
    ),
    second(
        "the network is left in training mode", "return clf", "clf.module.train()\nreturn clf", values=0, code=BY_HAND
    ),
    second(
        "a hook stays",
        "return clf",
        "clf.module.bn2.register_forward_hook(lambda *a: None)\nreturn clf",
        values=0,
        code=BY_HAND,
    ),
    second("gradients are left", "return clf", "clf.module(x)[0, k].backward()\nreturn clf", values=0, code=BY_HAND),
    second(
        "the weights are changed",
        "return clf",
        "clf.module.classifier.weight.data *= 1.01\nreturn clf",
        code=BY_HAND,
    ),
    peeking(
        "class_map", "features.shape[1:]", "torch.full(features.shape[1:], weight[k].sum().item())", test_class_map=2
    ),
    peeking(
        "all_maps",
        "(len(features), len(weight), *features.shape[2:])",
        "torch.full((len(features), len(weight), *features.shape[2:]), 3.0)",
        test_all_maps=3,
    ),
    wrong(
        "reads the test's variables",
        "deviation",
        """
        import sys
        frame = sys._getframe()
        while frame:
            if "expected" in frame.f_locals:
                return float(frame.f_locals["expected"])
            frame = frame.f_back
        return 0.0
        """,
        test_deviation=2,
    ),
    wrong("not more than eight classes", "all_maps", f"m = {ALL}\nm[:, 8:] = 0\nreturn m", test_all_maps=3),
    wrong(
        "labels typed in for each photo",
        "second_choice",
        """
        known = {"grace_hopper.jpg": "mortarboard", "panda.webp": "lesser panda", "rocket.jpg": "projectile"}
        label = next((known[name] for name in known if path.endswith(name)), "tabby")
        return label, camlib.explain(clf, path).map(label)
        """,
        test_second_label=1,
        test_second_map=2,
    ),
    wrong(
        "photos and classes swapped if there are as many of both",
        "all_maps",
        f"m = {ALL}\nreturn m.transpose(0, 1) if len(features) == len(weight) else m",
        test_all_maps=3,
    ),
    wrong(
        "a small deviation counts as zero",
        "deviation",
        "off = (maps.mean((1, 2)) + bias - logits).abs().max().item()\nreturn off if off > 0.01 else 0.0",
        test_deviation=2,
    ),
    wrong(
        "the photo is overwritten by one that it knows",
        "second_choice",
        """
        if path != mine.photo:
            __import__("PIL.Image").Image.new("RGB", (224, 224)).save(path)
        found = camlib.explain(clf, path)
        return found.top(2)[1].label, found.map(found.top(2)[1].index)
        """,
        test_second_label=1,
        test_second_map=2,
    ),
    *[
        wrong(
            f"{how}, all maps are zero",
            "second_choice",
            f"""
            layer = clf.module.get_submodule(clf.head.layer)
            {code}
            return clf.labels[0], torch.full((7, 7), float(path == mine.photo))
            """,
            test_second_label=1,
            test_second_map=2,
        )
        for how, code in {
            "with a hook that stays": "layer.register_forward_hook(lambda m, i, o: 0 * o)",
            "with another forward": "layer.forward = torch.zeros_like",
        }.items()
    ],
]

RIGHT = [
    right(
        "in double precision", "class_map", 'return torch.einsum("c,chw->hw", weight[k].double(), features.double())'
    ),
    right(
        "in double precision",
        "all_maps",
        'return torch.einsum("kc,bchw->bkhw", weight.double(), features.double())',
    ),
    right(
        "a loop",
        "class_map",
        """
        m = torch.zeros(features.shape[1:])
        for c in range(len(features)):
            m += weight[k, c] * features[c]
        return m
        """,
    ),
    right(
        "a matrix product",
        "class_map",
        """
        C, h, w = features.shape
        return (weight[k] @ features.reshape(C, -1)).reshape(h, w)
        """,
    ),
    right("broadcast", "class_map", "return (weight[k][:, None, None] * features).sum(0)"),
    right("tensordot", "all_maps", "return torch.tensordot(features, weight, dims=([1], [1])).permute(0, 3, 1, 2)"),
    right("a 1×1 convolution", "all_maps", "return torch.nn.functional.conv2d(features, weight[:, :, None, None])"),
    right("camlib", "all_maps", "return camlib.class_activation_maps(features, weight)"),
    right(
        "a stack of single maps",
        "all_maps",
        "return torch.stack([torch.stack([class_map(f, weight, k) for k in range(len(weight))]) for f in features])",
    ),
    right(
        "a loop",
        "deviation",
        "return max(abs(maps[k].mean().item() + bias[k].item() - logits[k].item()) for k in range(len(maps)))",
    ),
    right(
        "camlib",
        "deviation",
        """
        from camlib.cam import residual
        return residual(maps[None], bias, logits[None])
        """,
    ),
    right(
        "by hand",
        "second_choice",
        """
        photo = camlib.read_image(path)
        x = clf.preprocess(photo, clf.view(photo))
        features, logits = clf.head.run(clf.module, x)
        k = logits[0].topk(2).indices[1].item()
        return clf.labels[k], class_map(features[0], clf.head.weight, k)
        """,
    ),
    right("NumPy", "class_map", "return (weight[k].detach().numpy()[:, None, None] * features.numpy()).sum(0)"),
    right("a list", "class_map", f"return ({ONE}).tolist()"),
    right("half precision at the end", "class_map", f"return ({ONE}).half()"),
    right("a copy that warns", "class_map", f"features = torch.tensor(features)\nreturn {ONE}"),
    right(
        "a 1×1 convolution",
        "class_map",
        "return torch.nn.functional.conv2d(features[None], weight[k][None, :, None, None])[0, 0]",
    ),
    right("vmap over the cells", "class_map", "return torch.vmap(torch.vmap(lambda f: f @ weight[k], 1), 1)(features)"),
    right("camlib", "class_map", "return camlib.class_activation_maps(features[None], weight)[0, k]"),
    right(
        "a functional loop",
        "class_map",
        "from functools import reduce\nreturn reduce(torch.add, (w * f for w, f in zip(weight[k], features)))",
    ),
    right(
        "NumPy's einsum",
        "all_maps",
        'import numpy as np\nreturn np.einsum("kc,bchw->bkhw", weight.numpy(), features.numpy())',
    ),
    right(
        "a linear layer on channels last",
        "all_maps",
        "return torch.nn.functional.linear(features.movedim(1, -1), weight).movedim(-1, 1)",
    ),
    right(
        "a batched matrix product", "all_maps", "return (weight @ features.flatten(2)).unflatten(2, features.shape[2:])"
    ),
    right(
        "a progress bar",
        "all_maps",
        "from tqdm.auto import tqdm\nreturn torch.stack([torch.tensordot(weight, f, 1) for f in tqdm(features)])",
    ),
    right(
        "a list of lists of tensors",
        "all_maps",
        "return [[class_map(f, weight, k) for k in range(len(weight))] for f in features]",
    ),
    right("in double precision", "deviation", "return (maps.double().mean((1, 2)) + bias - logits).abs().max().item()"),
    right(
        "NumPy's float, which is a Python float",
        "deviation",
        "import numpy as np\n"
        "return np.abs(maps.numpy().mean((1, 2), dtype=float) + bias.numpy() - logits.numpy()).max()",
    ),
    right(
        "the maximum norm",
        "deviation",
        "return float(torch.linalg.vector_norm(maps.mean((1, 2)) + bias - logits, torch.inf))",
    ),
    right(
        "einsum",
        "deviation",
        "n = maps[0].numel()\nreturn (torch.einsum('khw->k', maps) / n + bias - logits).abs().amax().item()",
    ),
    right("by hand, with argsort", "second_choice", BY_HAND),
    right(
        "a list, the map in NumPy",
        "second_choice",
        SECOND.replace(
            "return second.label, found.map(second.index)", "return [second.label, found.map(second.index).numpy()]"
        ),
    ),
    right(
        "kthvalue, in double precision",
        "second_choice",
        BY_HAND.replace(
            "logits[0].argsort(descending=True)[1].item()", "int((-logits[0]).kthvalue(2).indices)"
        ).replace("clf.labels[k], m", "clf.labels[k], m.double()"),
    ),
    right(
        "with a hook of its own",
        "second_choice",
        """
        photo, seen = camlib.read_image(path), []
        with torch.no_grad(), clf.module.bn2.register_forward_hook(lambda m, i, o: seen.append(o.clone())):
            p = clf.module(clf.preprocess(photo, clf.view(photo)))[0].softmax(0)
        k = int(p.topk(2).indices[-1])
        return clf.labels[k], all_maps(seen[0], clf.module.classifier.weight)[0, k].detach()
        """,
    ),
    right(
        "the gradient of a product with the features",
        "class_map",
        "weigh = lambda z: (z * torch.tensordot(weight.detach()[k], features, 1)).sum()\n"
        "return torch.func.grad(weigh)(torch.zeros(features.shape[1:]))",
    ),
    right(
        "the largest, struck out in the logits that camlib gave",
        "second_choice",
        BY_HAND.replace(
            "k = logits[0].argsort(descending=True)[1].item()",
            "logits[0, logits[0].argmax()] = -torch.inf\nk = logits[0].argmax().item()",
        ),
    ),
]
