"""Every known mistake in the exercise on the class activation map loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

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
]
