"""Every known mistake in the exercise on GAP weights loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

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
]
