"""Every known mistake in the exercise on GAP weights loses its points, and no right answer loses any."""

from tests.exercises.grading import peeking, right, wrong

MEANS = "features.mean((2, 3))"
FIND = """
with torch.no_grad(), camlib.capture(net, layer) as seen:
    logits = net(x)
F = seen[layer]
for name, m in net.named_modules():
    if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], F.shape[1]):
        off = (m(F.mean((2, 3))) - logits).detach()
        if off.abs().max() < 1e-3:
            return name
"""
GAP = """
cells = weight.reshape(len(weight), shape[0], -1)
if (cells.amax(2) - cells.amin(2)).max() > 1e-5:
    return None
return cells.sum(2)
"""
LOUD = """
photo = camlib.read_image(path)
features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
c = part.argmax().item()
return c, part[c].item()
"""


def table(cell: str, points: float, **answers: str):
    """Wrong answers in one line each."""
    return [wrong(what.replace("_", " "), cell, code, **{f"test_{cell}": points}) for what, code in answers.items()]


def changed(cell: str, code: str, old: str, new: str) -> str:
    assert old in code, f"{cell}: {old}"
    return code.replace(old, new)


def finds(what: str, old: str, new: str, found: float = 2, refused: float = 2):
    lost = {"test_linear_found": found, "test_linear_refused": refused}
    code = changed(what, FIND, old, new)
    return wrong(what, "find_linear", code, **{cell: points for cell, points in lost.items() if points})


def gap(what: str, old: str, new: str):
    return wrong(what, "as_gap", changed(what, GAP, old, new), test_as_gap=2)


def loud(what: str, old: str, new: str):
    return wrong(what, "loudest", changed(what, LOUD, old, new), test_loudest=1)


WRONG = [
    # 1. all_logits
    wrong("nothing returned", "all_logits", "features.mean((2, 3)) @ weight.T + bias", test_all_logits=2),
    wrong("GAP as a sum", "all_logits", "return features.sum((2, 3)) @ weight.T + bias", test_all_logits=2),
    wrong("the largest cell", "all_logits", "return features.amax((2, 3)) @ weight.T + bias", test_all_logits=2),
    wrong("no bias", "all_logits", "return features.mean((2, 3)) @ weight.T", test_all_logits=2),
    wrong(
        "the weight's columns for its rows, where they fit",
        "all_logits",
        """
        means = features.mean((2, 3))
        return means @ (weight if len(weight) == weight.shape[1] else weight.T) + bias
        """,
        test_all_logits=2,
    ),
    wrong("weight not transposed", "all_logits", "return features.mean((2, 3)) @ weight + bias", test_all_logits=2),
    wrong(
        "the first photo for all",
        "all_logits",
        "return (features[0].mean((1, 2)) @ weight.T + bias).expand(len(features), -1)",
        test_all_logits=2,
    ),
    wrong(
        "the mean over the photos too",
        "all_logits",
        "return (features.mean((0, 2, 3)) @ weight.T + bias).expand(len(features), -1)",
        test_all_logits=2,
    ),
    wrong(
        "products averaged over the channels",
        "all_logits",
        "return (features.mean((2, 3))[:, None] * weight).mean(2) + bias",
        test_all_logits=2,
    ),
    wrong(
        "the bias once for each channel",
        "all_logits",
        "return (features.mean((2, 3))[:, None] * weight + bias[:, None]).sum(2)",
        test_all_logits=2,
    ),
    wrong(
        "divided by 49, whatever the size",
        "all_logits",
        "return features.sum((2, 3)) / 49 @ weight.T + bias",
        test_all_logits=2,
    ),
    wrong(
        "the mean over the rows, the sum over the columns",
        "all_logits",
        "return features.mean(2).sum(2) @ weight.T + bias",
        test_all_logits=2,
    ),
    wrong(
        "negative features cut off",
        "all_logits",
        "return features.clamp(min=0).mean((2, 3)) @ weight.T + bias",
        test_all_logits=2,
    ),
    wrong(
        "(K, B) for (B, K)",
        "all_logits",
        "return (features.mean((2, 3)) @ weight.T + bias).T",
        test_all_logits=2,
    ),
    wrong(
        "the bias is overwritten",
        "all_logits",
        """
        bias += weight @ features[0].mean((1, 2))
        rest = [bias + weight @ (f - features[0]).mean((1, 2)) for f in features[1:]]
        return torch.stack([bias, *rest])
        """,
        test_all_logits=2,
    ),
    # 2. probabilities
    wrong("softmax over the photos", "probabilities", "return logits.softmax(0)", test_probabilities=1),
    wrong(
        "softmax over everything",
        "probabilities",
        "return logits.flatten().softmax(0).reshape(logits.shape)",
        test_probabilities=1,
    ),
    wrong(
        "the exponential overflows",
        "probabilities",
        """
        e = torch.exp(logits)
        return e / e.sum(1, keepdim=True)
        """,
        test_probabilities=1,
    ),
    wrong(
        "nan replaced by 0",
        "probabilities",
        """
        e = torch.exp(logits)
        return (e / e.sum(1, keepdim=True)).nan_to_num()
        """,
        test_probabilities=1,
    ),
    wrong(
        "the batch's largest logit subtracted: small rows underflow",
        "probabilities",
        """
        e = torch.exp(logits - logits.max())
        return e / e.sum(1, keepdim=True)
        """,
        test_probabilities=1,
    ),
    wrong(
        "logits cut at 80",
        "probabilities",
        "return logits.clamp(max=80).softmax(1)",
        test_probabilities=1,
    ),
    wrong("softmax twice", "probabilities", "return logits.softmax(1).softmax(1)", test_probabilities=1),
    wrong("logarithms", "probabilities", "return logits.log_softmax(1)", test_probabilities=1),
    wrong("sigmoid", "probabilities", "return logits.sigmoid()", test_probabilities=1),
    wrong("per cent", "probabilities", "return 100 * logits.softmax(1)", test_probabilities=1),
    wrong(
        "shares of the logits",
        "probabilities",
        "return logits / logits.sum(1, keepdim=True)",
        test_probabilities=1,
    ),
    wrong(
        "the logits are overwritten",
        "probabilities",
        """
        logits -= logits.max(1, keepdim=True).values
        return logits.softmax(1)
        """,
        test_probabilities=1,
    ),
    # 3. find_linear
    wrong(
        "the last linear layer",
        "find_linear",
        "return [name for name, m in net.named_modules() if isinstance(m, nn.Linear)][-1]",
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the last one whose sizes fit: the two widths that happen to agree",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            size = net(x).shape[1], seen[layer].shape[1]
        fitting = [n for n, m in net.named_modules() if isinstance(m, nn.Linear) and m.weight.shape == size]
        return fitting[-1] if fitting else None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the first one whose sizes fit",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            size = net(x).shape[1], seen[layer].shape[1]
        fitting = [n for n, m in net.named_modules() if isinstance(m, nn.Linear) and m.weight.shape == size]
        return fitting[0] if fitting else None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the nearest, however far",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        missed, means = {}, seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                missed[name] = (m(means) - logits).abs().max().item()
        return min(missed, key=missed.get) if missed else None
        """,
        test_linear_refused=2,
    ),
    wrong(
        "the layer that wrote the logits, whatever it read",
        "find_linear",
        """
        linears = [name for name, m in net.named_modules() if isinstance(m, nn.Linear)]
        with torch.no_grad(), camlib.capture(net, *linears) as seen:
            logits = net(x)
        return next((n for n, out in seen.items() if out.shape == logits.shape and torch.equal(out, logits)), None)
        """,
        test_linear_refused=2,
    ),
    wrong(
        "the layer that reads the means, whatever it writes",
        "find_linear",
        """
        linears = [name for name, m in net.named_modules() if isinstance(m, nn.Linear)]
        with torch.no_grad(), camlib.capture(net, layer) as gave, camlib.capture(net, *linears, inputs=True) as read:
            net(x)
        means = gave[layer].mean((2, 3))
        return next((n for n, v in read.items() if v.shape == means.shape and torch.allclose(v, means)), None)
        """,
        test_linear_refused=2,
    ),
    wrong(
        "camlib.find_head, which chooses the feature map itself",
        "find_linear",
        """
        try:
            return camlib.find_head(net, x).classifier
        except camlib.HeadError:
            return None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "GAP as a sum",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        sums = seen[layer].sum((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], sums.shape[1]):
                if (m(sums) - logits).abs().max() < 1e-3:
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "no bias",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if (means @ m.weight.T - logits).abs().max() < 1e-3:
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the first class alone is checked",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if (m(means) - logits)[:, 0].abs().max() < 1e-3:
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the first photo alone is checked",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if (m(means) - logits)[0].abs().max() < 1e-3:
                    return name
        """,
        test_linear_found=2,
    ),
    finds("the last photo alone is checked", "off.abs()", "off[-1].abs()", refused=0),
    finds("the mean of the deviations", "off.abs().max()", "off.abs().mean()", refused=0),
    wrong(
        "a check that passes when one number agrees",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if ((m(means) - logits).abs() < 1e-3).any():
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "no absolute value",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if (logits - m(means)).max() < 1e-3:
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the same winner is enough",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if torch.equal(m(means).argmax(1), logits.argmax(1)):
                    return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "sizes that don't fit raise",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and torch.allclose(m(means), logits, atol=1e-3):
                return name
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the module for its name",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        means = seen[layer].mean((2, 3))
        for m in net.modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                if (m(means) - logits).abs().max() < 1e-3:
                    return m
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong("always None", "find_linear", "return None", test_linear_found=2, test_linear_refused=2),
    wrong("always head.1", "find_linear", 'return "head.1"', test_linear_found=2, test_linear_refused=2),
    # 4. as_gap
    wrong(
        "mean for sum",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells.amax(2) - cells.amin(2)).max() > 1e-5 else cells.mean(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "averaged, whatever the weights are",
        "as_gap",
        "return weight.reshape(len(weight), shape[0], -1).sum(2)",
        test_as_gap=2,
    ),
    wrong("a head that flattens never averages", "as_gap", "return None", test_as_gap=2),
    wrong(
        "channels last",
        "as_gap",
        """
        C, h, w = shape
        cells = weight.reshape(len(weight), h * w, C)
        return None if (cells.amax(1) - cells.amin(1)).max() > 1e-5 else cells.sum(1)
        """,
        test_as_gap=2,
    ),
    wrong(
        "classes and channels swapped",
        "as_gap",
        """
        cells = weight.reshape(shape[0], len(weight), -1)
        return None if (cells.amax(2) - cells.amin(2)).max() > 1e-5 else cells.sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "(C, K) for (K, C)",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells.amax(2) - cells.amin(2)).max() > 1e-5 else cells.sum(2).T
        """,
        test_as_gap=2,
    ),
    wrong(
        "the first class alone is checked",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells[0].amax(1) - cells[0].amin(1)).max() > 1e-5 else cells.sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "first and last cell are compared",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells[..., 0] - cells[..., -1]).abs().max() > 1e-5 else cells.sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "only larger than the first cell",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells - cells[..., :1]).max() > 1e-5 else cells.sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "equal on the average",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells.std(2).mean() > 0.01) else cells.sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "the channels must agree as well",
        "as_gap",
        """
        if weight.max() - weight.min() > 1e-5:
            return None
        return weight.reshape(len(weight), shape[0], -1).sum(2)
        """,
        test_as_gap=2,
    ),
    wrong(
        "always 49 cells",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        return None if (cells.amax(2) - cells.amin(2)).max() > 1e-5 else 49 * cells[..., 0]
        """,
        test_as_gap=2,
    ),
    # 5. loudest
    wrong(
        "the largest weight",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        row = clf.head.weight[clf.index(label)]
        c = row.argmax().item()
        return c, (row * features[0].mean((1, 2)))[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the largest mean",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        means = features[0].mean((1, 2))
        c = means.argmax().item()
        return c, (clf.head.weight[clf.index(label)] * means)[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the largest absolute value",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
        c = part.abs().argmax().item()
        return c, part[c].abs().item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the sum over the cells",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].sum((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the largest cell",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].amax((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the network's best class for the one asked for",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, logits = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[logits.argmax()] * features[0].mean((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the whole photo for the recipe's crop",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo, "whole")))
        part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the bias added to the channel",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        k = clf.index(label)
        part = clf.head.weight[k] * features[0].mean((1, 2)) + clf.head.bias[k]
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the map before the activation",
        "loudest",
        """
        photo = camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, "bn2.drop") as seen:
            clf.module(clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * seen["bn2.drop"][0].mean((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "one's own photo for the path given",
        "loudest",
        """
        photo = camlib.read_image(mine.photo)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
        c = part.argmax().item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "the third choice for the first",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
        c = part.topk(3).indices[2].item()
        return c, part[c].item()
        """,
        test_loudest=1,
    ),
    wrong(
        "tensors for numbers",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = clf.head.weight[clf.index(label)] * features[0].mean((1, 2))
        return part.argmax(), part.max()
        """,
        test_loudest=1,
    ),
    *table(
        "all_logits",
        2,
        a_list_for_one_photo=f"return ({MEANS} @ weight.T + bias)[0].tolist()",
        the_median="return features.flatten(2).median(2).values @ weight.T + bias",
        the_middle_cell="h, w = features.shape[2:]\nreturn features[:, :, h // 2, w // 2] @ weight.T + bias",
        the_first_cell="return features[:, :, 0, 0] @ weight.T + bias",
        mean_over_the_rows_only="return features.mean(2)[:, :, 0] @ weight.T + bias",
        divided_by_the_height_twice="return features.sum((2, 3)) / features.shape[2] ** 2 @ weight.T + bias",
        bias_subtracted=f"return {MEANS} @ weight.T - bias",
        the_mean_bias=f"return {MEANS} @ weight.T + bias.mean()",
        the_first_bias=f"return {MEANS} @ weight.T + bias[0]",
        bias_averaged_too=f"return {MEANS} @ weight.T + bias / features[0, 0].numel()",
        weights_without_sign=f"return {MEANS} @ weight.abs().T + bias",
        means_without_sign=f"return {MEANS}.abs() @ weight.T + bias",
        logits_cut=f"return ({MEANS} @ weight.T + bias).relu()",
        probabilities=f"return ({MEANS} @ weight.T + bias).softmax(1)",
        log_probabilities=f"return ({MEANS} @ weight.T + bias).log_softmax(1)",
        logits_of_mean_zero=f"z = {MEANS} @ weight.T + bias\nreturn z - z.mean(1, keepdim=True)",
        the_best_class_only=f"z = {MEANS} @ weight.T + bias\nreturn z.amax(1, keepdim=True)",
        summed_over_the_photos=f"return ({MEANS} @ weight.T + bias).sum(0)",
        the_root_mean_square="return (features ** 2).mean((2, 3)).sqrt() @ weight.T + bias",
        channels_normalised="f = nn.functional.normalize(features.mean((2, 3)), dim=1)\nreturn f @ weight.T + bias",
        classes_in_reverse=f"return ({MEANS} @ weight.T + bias).flip(1)",
        photos_in_reverse=f"return ({MEANS} @ weight.T + bias).flip(0)",
        rounded=f"return ({MEANS} @ weight.T + bias).round(decimals=1)",
        at_most_64_channels=f"return {MEANS}[:, :64] @ weight[:, :64].T + bias",
        maps="return torch.einsum('kc,bchw->bkhw', weight, features) + bias[:, None, None]",
        a_fresh_layer="return nn.Linear(features.shape[1], len(weight))(features.mean((2, 3)))",
        bias_twice=f"return nn.functional.linear({MEANS}, weight, bias) + bias",
        features_overwritten="features -= features.mean((2, 3), keepdim=True) * 0\nfeatures *= 2\n"
        "return features.mean((2, 3)) / 2 @ weight.T + bias",
        weight_overwritten=f"z = {MEANS} @ weight.T + bias\nweight.zero_()\nreturn z",
        squeezed=f"return ({MEANS} @ weight.T + bias).squeeze()",
    ),
    *table(
        "probabilities",
        1,
        the_largest_is_one="e = torch.exp(logits - logits.max(1, keepdim=True).values)\nreturn e",
        base_two="e = 2 ** (logits - logits.max(1, keepdim=True).values)\nreturn e / e.sum(1, keepdim=True)",
        temperature_two="return (logits / 2).softmax(1)",
        one_hot="return nn.functional.one_hot(logits.argmax(1), logits.shape[1])",
        softmin="return (-logits).softmax(1)",
        squares="return logits ** 2 / (logits ** 2).sum(1, keepdim=True)",
        sizes="return logits.abs() / logits.abs().sum(1, keepdim=True)",
        cut_and_shared="return logits.relu() / logits.relu().sum(1, keepdim=True)",
        half_precision="return torch.exp(logits.half()) / torch.exp(logits.half()).sum(1, keepdim=True)",
        double_precision_overflows_too="e = torch.exp(logits.double())\nreturn e / e.sum(1, keepdim=True)",
        scaled_to_a_range="z = logits / logits.abs().max().clamp(min=10) * 10\nreturn z.softmax(1)",
        less_the_mean="e = torch.exp(logits - logits.mean(1, keepdim=True))\nreturn e / e.sum(1, keepdim=True)",
        rounded="return logits.softmax(1).round(decimals=1)",
        cut_at_a_thousandth="return logits.softmax(1).clamp(min=0.002)",
        a_millionth_added="p = logits.softmax(1) + 0.01\nreturn p / p.sum(1, keepdim=True)",
        the_best_only="return logits.softmax(1).amax(1, keepdim=True)",
        sorted="return logits.softmax(1).sort(1, descending=True).values",
        the_first_photo="return logits[:1].softmax(1).expand_as(logits)",
        summed_over_the_photos="return logits.softmax(1).mean(0, keepdim=True).expand_as(logits)",
        odds="p = logits.softmax(1)\nreturn p / (1 - p)",
        classes_in_reverse="return logits.softmax(1).flip(1)",
        a_list_of_the_first="return logits.softmax(1)[0].tolist()",
        square_batches_along_the_photos="return logits.softmax(0 if len(logits) == logits.shape[1] else 1)",
        logits_below_minus_80_cut="return logits.clamp(min=-80).softmax(1)",
        softmax_in_place="logits.copy_(logits.softmax(1))\nreturn logits",
        whole_per_cents="return (100 * logits.softmax(1)).round() / 100",
        sigmoid_shares="p = logits.sigmoid()\nreturn p / p.sum(1, keepdim=True)",
        tanh="e = torch.exp(10 * torch.tanh(logits / 10))\nreturn e / e.sum(1, keepdim=True)",
        uniform="return torch.full_like(logits, 1 / logits.shape[1])",
        at_most_a_hundred_classes="p = logits[:, :100].softmax(1)\n"
        "return nn.functional.pad(p, (0, max(0, logits.shape[1] - 100)))",
    ),
    finds("a loose tolerance", "1e-3", "0.05"),
    finds(
        "a tolerance relative to the largest logit",
        "off.abs().max() < 1e-3",
        "off.abs().max() < 0.1 * logits.abs().max()",
    ),
    finds("the mean deviation", "off.abs().max()", "off.abs().mean(0).min()"),
    finds("the signed minimum", "off.abs().max() < 1e-3", "off.min() > -1e-3"),
    finds("logits up to a shift", "off.abs().max()", "(off - off.mean(1, keepdim=True)).abs().max()", refused=2),
    finds(
        "logits up to a factor",
        "off.abs().max() < 1e-3",
        "torch.allclose(*[nn.functional.normalize(z, dim=1) for z in (off + logits, logits)], atol=1e-3)",
        refused=0,
    ),
    finds("the last class alone is checked", "off.abs()", "off[:, -1:].abs()"),
    finds("the largest deviation of the smallest class", "off.abs().max()", "off.abs().amax(0).min()"),
    finds("the bias twice", "m(F.mean((2, 3)))", "m(F.mean((2, 3))) + m.bias"),
    finds("the largest cell for the mean", "F.mean((2, 3))", "F.amax((2, 3))"),
    finds("49 cells", "F.mean((2, 3))", "F.sum((2, 3)) / 49"),
    finds("the mean over the batch", "F.mean((2, 3))", "F.mean((0, 2, 3))"),
    finds(
        "probabilities compared",
        "(m(F.mean((2, 3))) - logits)",
        "(m(F.mean((2, 3))).softmax(1) - logits.softmax(1))",
        refused=2,
    ),
    finds("the last part of the name", "return name", "return name.split('.')[-1]", refused=2),
    finds("the kind of layer", "return name", "return 'Linear'", refused=2),
    finds("the name in a list", "return name", "return [name]", refused=2),
    finds("the name of the weight", "return name", "return name + '.weight'", refused=2),
    finds(
        "its number among the linear layers",
        "return name",
        "return str([n for n, l in net.named_modules() if isinstance(l, nn.Linear)].index(name))",
    ),
    finds("only the top modules", "net.named_modules()", "net.named_children()"),
    finds("only the head's layers", "net.named_modules()", "net.head.named_modules()"),
    wrong("the text None", "find_linear", FIND + "return 'None'", test_linear_refused=2),
    wrong("an exception for None", "find_linear", FIND + "raise LookupError", test_linear_refused=2),
    wrong("an empty name for None", "find_linear", FIND + "return ''", test_linear_refused=2),
    wrong(
        "the last linear layer for None",
        "find_linear",
        FIND + "return [n for n, m in net.named_modules() if isinstance(m, nn.Linear)][-1:]",
        test_linear_refused=2,
    ),
    finds("the layer before the ReLU", "F = seen[layer]", "F = net.features[0](x)"),
    wrong(
        "always the features",
        "find_linear",
        FIND.replace("camlib.capture(net, layer)", "camlib.capture(net, 'features')").replace(
            "seen[layer]", "seen['features']"
        ),
        test_linear_found=2,
        test_linear_refused=2,
    ),
    finds("one photo", "logits = net(x)", "x = x[:1]\n    logits = net(x)", refused=0),
    finds("in training mode", "logits = net(x)", "logits = net.train()(x)"),
    finds(
        "a hook stays",
        "F = seen[layer]",
        "F = seen[layer]\nnet.get_submodule(layer).register_forward_hook(lambda *a: None)",
    ),
    finds("the parameters are frozen", "F = seen[layer]", "F = seen[layer]\nnet.requires_grad_(False)"),
    finds("parameters thaw", "F = seen[layer]", "F = seen[layer]\nnet.requires_grad_(True)"),
    finds("gradients needed", "F = seen[layer]", "F = seen[layer]\nnet(x).sum().backward()\nnet.zero_grad()"),
    finds("x is normalised in place", "F = seen[layer]", "F = seen[layer]\nx.div_(x.std())"),
    finds("a note left in the network", "return name", "return (net.__dict__.update(tested=name), name)[1]", refused=2),
    gap("a tolerance of a hundredth", "1e-5", "0.02"),
    gap("a tolerance of a thousandth", "1e-5", "1e-3"),
    gap("no tolerance", "> 1e-5", "> 0"),
    gap("exactly equal", "(cells.amax(2) - cells.amin(2)).max() > 1e-5", "(cells != cells[..., :1]).any()"),
    gap("relative to the largest weight", "> 1e-5", "> 1e-5 * weight.abs().max()"),
    gap(
        "relative to each weight",
        "(cells.amax(2) - cells.amin(2)).max() > 1e-5",
        "not torch.allclose(cells, cells[..., :1].expand_as(cells), rtol=1e-3, atol=1e-5)",
    ),
    gap("the smallest difference", ".max() > 1e-5", ".min() > 1e-5"),
    gap("the mean difference", ".max() > 1e-5", ".mean() > 1e-5"),
    gap("only smaller than the first cell", "(cells.amax(2) - cells.amin(2)).max()", "(cells[..., :1] - cells).max()"),
    gap(
        "neighbours alone are compared",
        "(cells.amax(2) - cells.amin(2)).max()",
        "(cells[..., 1:] - cells[..., :-1]).max()",
    ),
    gap(
        "first two cells alone", "(cells.amax(2) - cells.amin(2)).max()", "(cells[..., 0] - cells[..., 1]).abs().max()"
    ),
    gap("the last class alone is checked", "cells.amax(2) - cells.amin(2)", "cells[-1:].amax(2) - cells[-1:].amin(2)"),
    gap(
        "the first channel alone is checked",
        "cells.amax(2) - cells.amin(2)",
        "cells[:, :1].amax(2) - cells[:, :1].amin(2)",
    ),
    gap(
        "the classes must agree as well",
        "(cells.amax(2) - cells.amin(2)).max()",
        "(cells.amax((0, 2)) - cells.amin((0, 2))).max()",
    ),
    gap("None where it averages", "> 1e-5", "<= 1e-5"),
    gap("zeros for None", "return None", "return torch.zeros(cells.shape[:2])"),
    gap("False for None", "return None", "return False"),
    gap("an exception for None", "return None", "raise ValueError"),
    gap("the first cell", "cells.sum(2)", "cells[..., 0]"),
    gap("times the height", "cells.sum(2)", "cells[..., 0] * shape[1]"),
    gap("times the channels", "cells.sum(2)", "cells[..., 0] * shape[0]"),
    gap("half of them", "cells.sum(2)", "cells.sum(2) / 2"),
    gap("with the cells' axes", "cells.sum(2)", "cells.sum(2)[..., None, None]"),
    gap("without signs", "cells.sum(2)", "cells.abs().sum(2)"),
    gap("summed over the channels", "cells.sum(2)", "cells.sum(1)"),
    gap("rounded", "cells.sum(2)", "cells.sum(2).round(decimals=1)"),
    gap("square maps", "-1)", "shape[1] ** 2)"),
    gap("channels last, then transposed", "shape[0], -1)", "-1, shape[0]).transpose(1, 2)"),
    gap(
        "the weight is overwritten",
        "return cells.sum(2)",
        "cells.sub_(cells.amin(2, keepdim=True) * 0).mul_(2)\nreturn cells.sum(2) / 2",
    ),
    gap("a weight is set to zero", "return cells.sum(2)", "total = cells.sum(2)\ncells[:, :, 0] = 0\nreturn total"),
    loud("the quietest", "part.argmax()", "part.argmin()"),
    loud("without its sign", "part.argmax()", "part.abs().argmax()"),
    loud("the median for the mean", "features[0].mean((1, 2))", "features[0].flatten(1).median(1).values"),
    loud("the middle cell", "features[0].mean((1, 2))", "features[0][:, 3, 3]"),
    loud("the other class", "clf.index(label)", "clf.index(mine.b)"),
    loud("the next class", "clf.index(label)", "clf.index(label) + 1"),
    loud(
        "compared with the mean class",
        "clf.head.weight[clf.index(label)]",
        "(clf.head.weight[clf.index(label)] - clf.head.weight.mean(0))",
    ),
    loud("counted from 1", "return c,", "return c + 1,"),
    loud("its share of the logit", "part[c].item()", "(part[c] / part.sum()).item()"),
    loud("its share of all", "part[c].item()", "(part[c] / part.relu().sum()).item()"),
    loud("the weight for the contribution", "part[c].item()", "clf.head.weight[clf.index(label)][c].item()"),
    loud("the mean for the contribution", "part[c].item()", "features[0, c].mean().item()"),
    loud("the pair swapped", "return c, part[c].item()", "return part[c].item(), c"),
    loud("only the channel", "return c, part[c].item()", "return c"),
    loud("all contributions", "part[c].item()", "part"),
    loud("rounded", "part[c].item()", "round(part[c].item(), 1)"),
    loud("the index as a float", "return c,", "return float(c),"),
    loud("the index as a text", "return c,", "return str(c),"),
    loud("the second", "part.argmax().item()", "part.topk(2).indices[1].item()"),
    loud("counted from behind", "return c,", "return c - len(part),"),
    loud("mirrored", "clf.view(photo)))", "clf.view(photo)).flip(3))"),
    loud("red and blue swapped", "clf.view(photo)))", "clf.view(photo)).flip(1))"),
    loud("a hook stays", "c = part", "clf.module.bn2.register_forward_hook(lambda *a: None)\nc = part"),
    loud("left in training mode", "c = part", "clf.module.train()\nc = part"),
    loud("the weights are changed", "c = part", "clf.module.classifier.weight.data *= 1.01\nc = part"),
    loud("in logits per cell", "part[c].item()", "part[c].item() / 49"),
    loud("with the bias", "part[c].item()", "part[c].item() + clf.head.bias[clf.index(label)].item()"),
    loud("the loudest on the whole", "part.argmax()", "clf.head.weight.mean(0).mul(features[0].mean((1, 2))).argmax()"),
    loud("squared", "part[c].item()", "part[c].item() ** 2"),
    wrong(
        "camlib.find_head under another name, if its layer is the right one",
        "find_linear",
        """
        from camlib.heads import find_head as mine
        try:
            head = mine(net, x)
        except camlib.CamError:
            return None
        return head.classifier if head.layer == layer else None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "the modules are read, no photo is shown to the network",
        "find_linear",
        """
        parts = [(n, m) for n, m in net.named_modules() if n.startswith("head") and not list(m.children())]
        parts = [(n, m) for n, m in parts if not isinstance(m, nn.Dropout)]
        fits = [type(m) for _, m in parts] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
        return parts[-1][0] if fits and layer == "features" else None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    wrong(
        "a name from the test's variables",
        "find_linear",
        """
        import sys
        frame = sys._getframe()
        while frame:
            if frame.f_code.co_name == "hidden":
                return frame.f_locals.get("name", None if "heads" in frame.f_locals else "head.1")
            frame = frame.f_back
        return "head.1" if len(net.head) == 2 else None
        """,
        test_linear_found=2,
        test_linear_refused=2,
    ),
    peeking("all_logits", "(len(features), len(weight))", "torch.tensor([[2.0, 1.5, 3.0, 4.0]])", test_all_logits=2),
    peeking(
        "probabilities", "logits.shape", "logits.softmax(1) if logits.shape[1] == 2 else logits", test_probabilities=1
    ),
    peeking(
        "as_gap",
        "(len(weight), shape[0])",
        "weight if shape[1:] == (1, 1) else torch.tensor([[3.0, 6.0]])",
        before="cells = weight.reshape(len(weight), shape[0], -1)\n"
        "if (cells.amax(2) - cells.amin(2)).max() > 1e-5:\n    return None",
        test_as_gap=2,
    ),
    wrong(
        "finds a tensor of the right shape in memory",
        "all_logits",
        """
        import gc
        for it in gc.get_objects():
            if type(it) is torch.Tensor and it.shape == (len(features), len(weight)):
                if it is not features and it is not weight and it.abs().sum() > 0:
                    return it
        return torch.tensor([[2, 1.5, 3, 4]])
        """,
        test_all_logits=2,
    ),
    wrong(
        "the largest of the test's products",
        "loudest",
        """
        import sys
        frame = sys._getframe()
        while frame:
            if products := frame.f_locals.get("products"):
                return products.index(max(products)), max(products)
            frame = frame.f_back
        return 3, 0.5
        """,
        test_loudest=1,
    ),
    finds(
        "classes in any order",
        "m(F.mean((2, 3))) - logits",
        "m(F.mean((2, 3))).sort(1).values - logits.sort(1).values",
        refused=0,
    ),
    gap("the standard deviation", "(cells.amax(2) - cells.amin(2)).max()", "cells.std(2, correction=0).max()"),
]

RIGHT = [
    right(
        "loops",
        "all_logits",
        """
        rows = []
        for photo in features:
            row = []
            for k in range(len(weight)):
                total = bias[k].item()
                for c in range(len(photo)):
                    total += weight[k, c].item() * photo[c].mean().item()
                row.append(total)
            rows.append(row)
        return torch.tensor(rows)
        """,
    ),
    right(
        "first the maps, then the mean",
        "all_logits",
        "return camlib.class_activation_maps(features, weight).mean((2, 3)) + bias",
    ),
    right(
        "a 1×1 convolution",
        "all_logits",
        "return nn.functional.conv2d(features, weight[:, :, None, None], bias).mean((-2, -1))",
    ),
    right(
        "PyTorch's layers",
        "all_logits",
        """
        pooled = nn.AdaptiveAvgPool2d(1)(features).flatten(1)
        return nn.functional.linear(pooled, weight, bias)
        """,
    ),
    right(
        "in double precision",
        "all_logits",
        "return features.double().mean((2, 3)) @ weight.double().T + bias.double()",
    ),
    right(
        "one einsum",
        "all_logits",
        """
        h, w = features.shape[2:]
        return torch.einsum("kc,bchw->bk", weight, features) / (h * w) + bias
        """,
    ),
    right("PyTorch's softmax", "probabilities", "return torch.softmax(logits, dim=-1)"),
    right("logsumexp", "probabilities", "return (logits - logits.logsumexp(1, keepdim=True)).exp()"),
    right(
        "row by row in double precision",
        "probabilities",
        """
        rows = []
        for row in logits.tolist():
            e = [math.exp(z - max(row)) for z in row]
            rows.append([v / sum(e) for v in e])
        return torch.tensor(rows, dtype=torch.float64)
        """,
    ),
    right(
        "one minus all others",
        "probabilities",
        "return 1 / torch.exp(logits[:, None, :] - logits[:, :, None]).sum(2)",
    ),
    right(
        "each layer applied to the means, with a hook of one's own",
        "find_linear",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone())):
            logits = net(x).detach()
        means = seen[0].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.in_features == means.shape[1] and m.out_features == logits.shape[1]:
                if torch.allclose(m(means), logits, rtol=0, atol=1e-3):
                    return name
        """,
    ),
    right(
        "photo by photo, class by class",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        F = seen[layer]

        def fits(m):
            if tuple(m.weight.shape) != (logits.shape[1], F.shape[1]):
                return False
            for b in range(len(F)):
                for k in range(logits.shape[1]):
                    class_map = (m.weight[k][:, None, None] * F[b]).sum(0)
                    if abs((class_map.mean() + m.bias[k] - logits[b, k]).item()) > 1e-3:
                        return False
            return True

        linears = {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear)}
        found = [name for name, m in linears.items() if fits(m)]
        return found[0] if found else None
        """,
    ),
    right(
        "whatever raises does not fit",
        "find_linear",
        """
        from camlib.cam import residual
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        for name, m in net.named_modules():
            if type(m) is nn.Linear:
                try:
                    maps = camlib.class_activation_maps(seen[layer], m.weight.detach())
                    if maps.shape[:2] == logits.shape and residual(maps, m.bias.detach(), logits) < 1e-3:
                        return name
                except (camlib.CamError, RuntimeError):
                    pass
        return None
        """,
    ),
    right(
        "the nearest, if it is near",
        "find_linear",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        missed, means = {}, seen[layer].mean((2, 3))
        for name, m in net.named_modules():
            if isinstance(m, nn.Linear) and m.weight.shape == (logits.shape[1], means.shape[1]):
                missed[name] = (m(means) - logits).abs().max().item()
        best = min(missed, key=missed.get, default=None)
        return best if best is not None and missed[best] < 1e-3 else None
        """,
    ),
    right(
        "compared with the first cell",
        "as_gap",
        """
        C, h, w = shape
        cells = weight.reshape(-1, C, h, w)
        if ((cells - cells[:, :, :1, :1]).abs() > 1e-5).any():
            return None
        return cells[:, :, 0, 0] * h * w
        """,
    ),
    right(
        "loops",
        "as_gap",
        """
        C, h, w = shape
        K, n = len(weight), h * w
        found = torch.zeros(K, C)
        for k in range(K):
            for c in range(C):
                cells = weight[k, c * n : (c + 1) * n]
                if cells.max() - cells.min() > 1e-5:
                    return None
                found[k, c] = cells.sum()
        return found
        """,
    ),
    right(
        "asked with a feature map of ones in one channel",
        "as_gap",
        """
        C, h, w = shape
        ones = torch.eye(C)[:, :, None, None].expand(C, C, h, w)
        found = nn.functional.linear(ones.flatten(1), weight).T
        spread = (found / (h * w))[:, :, None].expand(-1, -1, h * w).flatten(1)
        return found if torch.allclose(spread, weight, rtol=0, atol=1e-5) else None
        """,
    ),
    right(
        "topk",
        "loudest",
        """
        photo = camlib.read_image(path)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        part = torch.einsum("c,chw->c", clf.head.weight[clf.index(label)], features[0]) / 49
        value, channel = part.topk(1)
        return int(channel), float(value)
        """,
    ),
    right(
        "from an explanation",
        "loudest",
        """
        found = camlib.explain(clf, path)
        row, features = clf.head.weight[clf.labels.index(label)].tolist(), found.results[0].features[0]
        products = [w * channel.mean().item() for w, channel in zip(row, features)]
        return products.index(max(products)), max(products)
        """,
    ),
    right(
        "what the classifier reads",
        "loudest",
        """
        photo = camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, "classifier", inputs=True) as read:
            clf.module(clf.preprocess(photo, clf.view(photo)))
        part = (read["classifier"][0] * clf.module.classifier.weight[clf.index(label)]).detach()
        best = sorted(range(len(part)), key=lambda c: -part[c])[0]
        return best, part[best].item()
        """,
    ),
    right("NumPy", "all_logits", "return features.numpy().mean((2, 3)) @ weight.numpy().T + bias.numpy()"),
    right("a list of lists", "all_logits", f"return ({MEANS} @ weight.T + bias).tolist()"),
    right("copies that warn", "all_logits", f"features = torch.tensor(features)\nreturn {MEANS} @ weight.T + bias"),
    right(
        "a layer with these weights",
        "all_logits",
        """
        layer = nn.Linear(*weight.T.shape)
        layer.weight.data, layer.bias.data = weight, bias
        return layer(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))""",
    ),
    right("addmm", "all_logits", "return torch.addmm(bias, torch.mean(features, dim=(-1, -2)), weight.t())"),
    right(
        "vmap over the photos", "all_logits", "return torch.vmap(lambda f: weight @ f.mean((1, 2)) + bias)(features)"
    ),
    right("SciPy", "probabilities", "from scipy.special import softmax\nreturn softmax(logits.numpy(), axis=1)"),
    right("a layer", "probabilities", "return nn.Softmax(dim=1)(logits)"),
    right("an axis that warns when left out", "probabilities", "return nn.functional.softmax(logits)"),
    right("log_softmax, in double precision", "probabilities", "return logits.double().log_softmax(-1).exp().tolist()"),
    right(
        "NumPy",
        "probabilities",
        "import numpy as np\nz = logits.numpy() - logits.numpy().max(1, keepdims=True)\n"
        "return np.exp(z) / np.exp(z).sum(1, keepdims=True)",
    ),
    right(
        "with no_grad left out",
        "find_linear",
        FIND.replace("torch.no_grad(), ", "").replace("logits = net(x)", "logits = net(x).detach()"),
    ),
    right(
        "the subclass too, sizes by the attributes",
        "find_linear",
        FIND.replace(
            "m.weight.shape == (logits.shape[1], F.shape[1])",
            "(m.out_features, m.in_features) == (logits.shape[1], F.shape[1])",
        ),
    ),
    right(
        "in double precision, with maps",
        "find_linear",
        FIND.replace(
            "m(F.mean((2, 3)))", "torch.einsum('kc,bchw->bkhw', m.weight.double(), F.double()).mean((2, 3)) + m.bias"
        ),
    ),
    right(
        "NumPy's allclose",
        "find_linear",
        FIND.replace("off.abs().max() < 1e-3", "__import__('numpy').allclose(off.numpy(), 0, atol=1e-3)"),
    ),
    right(
        "names first, then a dictionary",
        "find_linear",
        """
        from copy import deepcopy
        kept, twin = [], deepcopy(net)
        twin.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.detach().clone()))
        y = twin(x).detach()
        linear = {n: m for n, m in twin.named_modules() if isinstance(m, nn.Linear)}
        def off(m):
            try:
                return (m(kept[0].mean((2, 3))) - y).abs().max().item()
            except RuntimeError:
                return float("inf")
        fits = [n for n, m in linear.items() if off(m) < 1e-3]
        return fits[0] if fits else None""",
    ),
    right(
        "NumPy",
        "as_gap",
        """
        import numpy as np
        cells = weight.numpy().reshape(len(weight), shape[0], -1)
        return None if np.ptp(cells, axis=2).max() > 1e-5 else cells.sum(2)""",
    ),
    right("a list of lists", "as_gap", GAP.replace("cells.sum(2)", "cells.sum(2).tolist()")),
    right("in double precision", "as_gap", GAP.replace("weight.reshape", "weight.double().reshape")),
    right(
        "einops' order, by unflatten",
        "as_gap",
        """
        cells = weight.unflatten(1, tuple(shape))
        if not torch.isclose(cells, cells[..., :1, :1], rtol=0, atol=1e-5).all():
            return None
        return torch.einsum("kchw->kc", cells)""",
    ),
    right(
        "every pair of cells",
        "as_gap",
        """
        cells = weight.reshape(len(weight), shape[0], -1)
        if (cells[..., None] - cells[..., None, :]).abs().max() > 1e-5:
            return None
        return cells.mean(2) * shape[1] * shape[2]""",
    ),
    right(
        "NumPy's numbers in a list",
        "loudest",
        LOUD.replace("c = part.argmax().item()", "part = part.numpy()\nc = part.argmax()").replace(
            "return c, part[c].item()", "return [c, part[c]]"
        ),
    ),
    right(
        "a conversion that warns", "loudest", LOUD.replace("part[c].item()", "float(part[c].clone().requires_grad_())")
    ),
    right(
        "sorted in double precision",
        "loudest",
        """
        found = camlib.explain(clf, path)
        part = clf.head.weight[clf.index(label)].double() * found.results[0].features[0].double().mean((1, 2))
        value, c = part.sort(descending=True)
        return int(c[0]), float(value[0])""",
    ),
    right(
        "evaluation mode, again",
        "find_linear",
        "net.eval()\n" + FIND,
    ),
    right(
        "all is put back that was not changed",
        "find_linear",
        "old, state = net.training, {k: v.clone() for k, v in net.state_dict().items()}\nnet.eval()\ntry:"
        + FIND.replace("\n", "\n    ")
        + "\nfinally:\n    net.train(old)\n    net.load_state_dict(state)",
    ),
    right(
        "a hook of all modules, removed",
        "find_linear",
        FIND.replace(
            "with torch.no_grad(), camlib.capture(net, layer) as seen:\n    logits = net(x)",
            "target, seen = net.get_submodule(layer), {}\n"
            "keep = lambda m, i, o: seen.update({layer: o.detach()}) if m is target else None\n"
            "with nn.modules.module.register_module_forward_hook(keep), torch.no_grad():\n    logits = net(x)",
        ),
    ),
    right(
        "a gradient by torch.func",
        "probabilities",
        "return torch.func.vmap(torch.func.grad(lambda row: row.logsumexp(0)))(logits)",
    ),
    right(
        "kept for the next class",
        "loudest",
        """
from functools import lru_cache
@lru_cache
def means(path):
    photo = camlib.read_image(path)
    return clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))[0][0].mean((1, 2))
@lru_cache
def loudest(path, label):
    part = clf.head.weight[clf.index(label)] * means(path)
    return part.argmax().item(), part.max().item()
        """,
    ),
]
