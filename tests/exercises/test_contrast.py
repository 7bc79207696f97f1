"""Every known mistake in the exercise on contrasts loses its points, and no right answer loses any."""

from tests.exercises.grading import peeking, right, wrong

# Right answers, of which each wrong one changes a line.
CONTRAST = """
rows = torch.stack([weight[a] - weight[b] for a, b in pairs])
return torch.einsum("pc,bchw->bphw", rows, features)
"""
ODDS = "return (logits[a] - logits[rivals].logsumexp(0)).item()"
SHARED = "return maps - maps.mean(1, keepdim=True)"
SCALE = """
limit = max(m.nan_to_num().abs().max().item() for m in maps)
return [m / (limit or 1) for m in maps]
"""
LEAD = """
found = camlib.explain(clf, path)
cells = found.contrast(a, b)
biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
"""


def but(code: str, old: str, new: str) -> str:
    assert old in code, old
    return code.replace(old, new)


def contrast(what: str, old: str, new: str):
    return wrong(what, "contrast_maps", but(CONTRAST, old, new), test_contrast_maps=2)


def odds(what: str, code: str, small: float = 1, large: float = 1):
    loses = {"test_log_odds": small, "test_log_odds_large": large}
    return wrong(what, "log_odds", code, **{name: lost for name, lost in loses.items() if lost})


def shared(what: str, code: str):
    return wrong(what, "without_shared", code, test_without_shared=2)


def scale(what: str, old: str, new: str, plain: float = 1, edges: float = 1):
    loses = {"test_scale": plain, "test_scale_edges": edges}
    return wrong(what, "on_one_scale", but(SCALE, old, new), **{name: lost for name, lost in loses.items() if lost})


def lead(what: str, old: str, new: str):
    return wrong(what, "lead", but(LEAD, old, new), test_lead=2)


WRONG = [
    # 1. contrast_maps
    wrong(
        "nothing returned",
        "contrast_maps",
        "torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs], 1)",
        test_contrast_maps=2,
    ),
    wrong(
        "b against a",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, b, a) for a, b in pairs], 1)",
        test_contrast_maps=2,
    ),
    wrong(
        "the maps of a alone",
        "contrast_maps",
        """
        rows = torch.stack([weight[a] for a, b in pairs])
        return torch.einsum("pc,bchw->bphw", rows, features)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "each map stretched to 0..1 before the subtraction",
        "contrast_maps",
        """
        maps = torch.einsum("kc,bchw->bkhw", weight, features)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        maps = (maps - low) / (high - low)
        return torch.stack([maps[:, a] - maps[:, b] for a, b in pairs], 1)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "negative evidence cut before the subtraction",
        "contrast_maps",
        """
        maps = torch.einsum("kc,bchw->bkhw", weight, features).clamp(min=0)
        return torch.stack([maps[:, a] - maps[:, b] for a, b in pairs], 1)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "what speaks for b cut off",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, a, b).relu() for a, b in pairs], 1)",
        test_contrast_maps=2,
    ),
    wrong(
        "the absolute difference",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, a, b).abs() for a, b in pairs], 1)",
        test_contrast_maps=2,
    ),
    wrong(
        "each contrast divided by its maximum",
        "contrast_maps",
        """
        found = torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs], 1)
        return found / found.abs().amax((2, 3), keepdim=True)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "a quotient for a difference",
        "contrast_maps",
        """
        maps = torch.einsum("kc,bchw->bkhw", weight, features)
        return torch.stack([maps[:, a] / maps[:, b] for a, b in pairs], 1)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "the first pair for all",
        "contrast_maps",
        """
        a, b = pairs[0]
        return torch.stack([camlib.contrast(features, weight, a, b) for _ in pairs], 1)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "the first photo for all",
        "contrast_maps",
        """
        found = torch.stack([camlib.contrast(features[:1], weight, a, b) for a, b in pairs], 1)
        return found.expand(len(features), -1, -1, -1)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "pairs in front of photos",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs])",
        test_contrast_maps=2,
    ),
    wrong(
        "columns of the weight",
        "contrast_maps",
        """
        rows = torch.stack([weight[:, a] - weight[:, b] for a, b in pairs])
        return torch.einsum("pc,bchw->bphw", rows, features)
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "rows and columns of the cells swapped, where it fits",
        "contrast_maps",
        """
        found = torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs], 1)
        return found.mT if found.shape[2] == found.shape[3] else found
        """,
        test_contrast_maps=2,
    ),
    wrong(
        "divided by the number of cells",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs], 1) / features[0, 0].numel()",
        test_contrast_maps=2,
    ),
    wrong(
        "the weight is overwritten",
        "contrast_maps",
        """
        found = []
        for a, b in pairs:
            row = weight[a]
            row -= weight[b]
            found.append(torch.einsum("c,bchw->bhw", row, features))
        return torch.stack(found, 1)
        """,
        test_contrast_maps=2,
    ),
    # 2. log_odds
    wrong(
        "a difference of probabilities",
        "log_odds",
        """
        p = logits.softmax(0)
        return (p[a] - p[rivals].sum()).item()
        """,
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the odds, without the logarithm",
        "log_odds",
        "return (logits[a] - logits[rivals].logsumexp(0)).exp().item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the logarithm to base 10",
        "log_odds",
        "return (logits[a] - logits[rivals].logsumexp(0)).item() / math.log(10)",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the strongest rival alone",
        "log_odds",
        "return (logits[a] - logits[rivals].max()).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the mean of the rivals' logits",
        "log_odds",
        "return (logits[a] - logits[rivals].mean()).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the sum of the rivals' logits",
        "log_odds",
        "return (logits[a] - logits[rivals].sum()).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the first rival alone",
        "log_odds",
        "return (logits[a] - logits[rivals[0]]).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "against all others, not against the class that was asked for",
        "log_odds",
        """
        p = logits.double().softmax(0)
        return math.log(p[a] / (1 - p[a]))
        """,
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "a among its own rivals",
        "log_odds",
        "return (logits[a] - logits[[a, *rivals]].logsumexp(0)).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the rivals against a",
        "log_odds",
        "return (logits[rivals].logsumexp(0) - logits[a]).item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the logarithm of p_a",
        "log_odds",
        "return logits.log_softmax(0)[a].item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "softmax only over a and its rivals, and a's share of it",
        "log_odds",
        "return logits[[a, *rivals]].softmax(0)[0].item()",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "a tensor for a float",
        "log_odds",
        "return logits[a] - logits[rivals].logsumexp(0)",
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    wrong(
        "the list of rivals is changed",
        "log_odds",
        """
        first = logits[rivals.pop()]
        rest = [logits[k] for k in rivals]
        return (logits[a] - torch.stack([first, *rest]).logsumexp(0)).item()
        """,
        test_log_odds=1,
    ),
    wrong(
        "exponentials that overflow",
        "log_odds",
        """
        e = torch.exp(logits)
        return torch.log(e[a] / e[rivals].sum()).item()
        """,
        test_log_odds_large=1,
    ),
    wrong(
        "probabilities that vanish",
        "log_odds",
        """
        p = logits.softmax(0)
        return torch.log(p[a] / p[rivals].sum()).item()
        """,
        test_log_odds_large=1,
    ),
    wrong(
        "a logarithm kept finite by a small number",
        "log_odds",
        """
        p = logits.double().softmax(0)
        return (torch.log(p[a] + 1e-12) - torch.log(p[rivals].sum() + 1e-12)).item()
        """,
        test_log_odds_large=1,
    ),
    wrong(
        "double precision alone, which is not enough",
        "log_odds",
        """
        p = logits.double().softmax(0)
        return torch.log(p[a] / p[rivals].sum()).item()
        """,
        test_log_odds_large=1,
    ),
    wrong(
        "cut at 80",
        "log_odds",
        """
        z = logits.clamp(-80, 80)
        return (z[a] - z[rivals].logsumexp(0)).item()
        """,
        test_log_odds_large=1,
    ),
    # 3. without_shared
    wrong(
        "the maps as they are",
        "without_shared",
        "return maps.clone()",
        test_without_shared=2,
    ),
    wrong(
        "the mean over the cells",
        "without_shared",
        "return maps - maps.mean((2, 3), keepdim=True)",
        test_without_shared=2,
    ),
    wrong(
        "the mean over the photos",
        "without_shared",
        "return maps - maps.mean(0, keepdim=True)",
        test_without_shared=2,
    ),
    wrong("the mean over everything", "without_shared", "return maps - maps.mean()", test_without_shared=2),
    wrong(
        "the mean over classes and photos",
        "without_shared",
        "return maps - maps.mean((0, 1))",
        test_without_shared=2,
    ),
    wrong(
        "the mean over classes and cells",
        "without_shared",
        "return maps - maps.mean((1, 2, 3), keepdim=True)",
        test_without_shared=2,
    ),
    wrong(
        "the axis of the classes lost: the photos' means taken from the classes",
        "without_shared",
        "return maps - maps.mean(1)",
        test_without_shared=2,
    ),
    wrong("against the first class", "without_shared", "return maps - maps[:, :1]", test_without_shared=2),
    wrong(
        "against the strongest class in the cell",
        "without_shared",
        "return maps - maps.amax(1, keepdim=True)",
        test_without_shared=2,
    ),
    wrong(
        "the median for the mean",
        "without_shared",
        "return maps - maps.quantile(0.5, 1, keepdim=True)",
        test_without_shared=2,
    ),
    wrong("softmax over the classes", "without_shared", "return maps.softmax(1)", test_without_shared=2),
    wrong(
        "scaled as well",
        "without_shared",
        """
        rest = maps - maps.mean(1, keepdim=True)
        return rest / rest.std(1, keepdim=True)
        """,
        test_without_shared=2,
    ),
    wrong(
        "the sum for the mean",
        "without_shared",
        "return maps - maps.sum(1, keepdim=True)",
        test_without_shared=2,
    ),
    wrong(
        "half of it: right for two classes",
        "without_shared",
        "return maps - maps.sum(1, keepdim=True) / 2",
        test_without_shared=2,
    ),
    wrong(
        "the maps are overwritten",
        "without_shared",
        """
        maps -= maps.mean(1, keepdim=True)
        return maps
        """,
        test_without_shared=2,
    ),
    wrong(
        "a name of the test is replaced",
        "log_odds",
        """
        import sys
        frame = sys._getframe()
        while frame:
            frame.f_globals["abs"] = lambda value: 0
            frame = frame.f_back
        return 0.0
        """,
        test_log_odds=1,
        test_log_odds_large=1,
    ),
    # 4. on_one_scale
    wrong(
        "each on a scale of its own",
        "on_one_scale",
        "return [m / (m.nan_to_num().abs().max() or 1) for m in maps]",
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "a floor under the limit",
        "on_one_scale",
        "limit = max(m.nan_to_num().abs().max().item() for m in maps)\nreturn [m / max(limit, 1e-19) for m in maps]",
        test_scale=1,
    ),
    wrong(
        "each stretched to 0..1",
        "on_one_scale",
        "return [(m - m.min()) / (m.max() - m.min()) for m in maps]",
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "stretched to 0..1 together",
        "on_one_scale",
        """
        values = torch.cat([m.flatten() for m in maps])
        values = values[~values.isnan()]
        low, high = values.min(), values.max()
        return [(m - low) / ((high - low) or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "max(h, 0) / max(h)",
        "on_one_scale",
        "return [m.clamp(min=0) / m.max() for m in maps]",
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "the largest value, without the negative ones",
        "on_one_scale",
        """
        limit = max(m.nan_to_num(-torch.inf).max().item() for m in maps)
        return [m / (limit or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "absolute values",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max().item() for m in maps)
        return [m.abs() / (limit or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "the range for the limit",
        "on_one_scale",
        """
        top = max(m.nan_to_num().max().item() for m in maps)
        low = min(m.nan_to_num().min().item() for m in maps)
        return [m / ((top - low) or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "the first map's scale for all",
        "on_one_scale",
        """
        limit = maps[0].nan_to_num().abs().max().item()
        return [m / (limit or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "gray at 0.5",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max().item() for m in maps)
        return [0.5 + 0.5 * m / (limit or 1) for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "sorted by their largest values",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max().item() for m in maps)
        order = sorted(maps, key=lambda m: -m.nan_to_num().abs().max().item())
        return [m / (limit or 1) for m in reversed(order)]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "quantised to 8 bits",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max().item() for m in maps)
        return [(m / (limit or 1) * 127).round() / 127 for m in maps]
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "all maps in one tensor",
        "on_one_scale",
        """
        together = torch.stack(list(maps))
        return list(together / (together.nan_to_num().abs().max() or 1))
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    wrong(
        "one NaN makes the limit NaN",
        "on_one_scale",
        """
        limit = torch.cat([m.flatten() for m in maps]).abs().max()
        return [m / (limit or 1) for m in maps]
        """,
        test_scale_edges=1,
    ),
    wrong(
        "NaN drawn as zero evidence",
        "on_one_scale",
        """
        maps = [m.nan_to_num() for m in maps]
        limit = max(m.abs().max().item() for m in maps)
        return [m / (limit or 1) for m in maps]
        """,
        test_scale_edges=1,
    ),
    wrong(
        "zero divided by zero",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max() for m in maps)
        return [m / limit for m in maps]
        """,
        test_scale_edges=1,
    ),
    wrong(
        "the maps are overwritten",
        "on_one_scale",
        """
        limit = max(m.nan_to_num().abs().max().item() for m in maps)
        for m in maps:
            m /= limit or 1
        return maps
        """,
        test_scale=1,
        test_scale_edges=1,
    ),
    # 5. lead
    wrong(
        "sums over the cells",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).sum().item(), cells.clamp(max=0).sum().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the mean of the red cells, the mean of the blue cells",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells[cells > 0].mean().item(), cells[cells < 0].mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "without the biases",
        "lead",
        """
        cells = camlib.explain(clf, path).contrast(a, b)
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), 0.0
        """,
        test_lead=2,
    ),
    wrong(
        "the biases the wrong way round",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b)
        biases = found.bias[clf.index(b)] - found.bias[clf.index(a)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the bias of a alone",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b)
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), found.bias[clf.index(a)].item()
        """,
        test_lead=2,
    ),
    wrong(
        "b against a",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(b, a)
        biases = found.bias[clf.index(b)] - found.bias[clf.index(a)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the two maps, not their contrast",
        "lead",
        """
        found = camlib.explain(clf, path)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return found.map(a).mean().item(), -found.map(b).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "both maps cut at zero before the subtraction",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.map(a).clamp(min=0) - found.map(b).clamp(min=0)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "both maps stretched before the subtraction",
        "lead",
        """
        found = camlib.explain(clf, path)
        one, other = ((m - m.min()) / (m.max() - m.min()) for m in (found.map(a), found.map(b)))
        cells = one - other
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the red cells as what is left of the lead: right only in the sum",
        "lead",
        """
        found = camlib.explain(clf, path)
        i, j = clf.index(a), clf.index(b)
        rest = (found.logits[i] - found.logits[j] - found.bias[i] + found.bias[j]).item()
        return max(rest, 0.0), min(rest, 0.0), (found.bias[i] - found.bias[j]).item()
        """,
        test_lead=2,
    ),
    wrong(
        "the upsampled map, which repeats the cells at the border",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = camlib.upsample(found.contrast(a, b), (224, 224))
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the whole photo for the recipe's crop",
        "lead",
        """
        found = camlib.explain(clf, path, view="whole")
        cells = found.contrast(a, b)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "one's own classes for those given",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(mine.a, mine.b)
        biases = found.bias[clf.index(mine.a)] - found.bias[clf.index(mine.b)]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the two best classes for those given",
        "lead",
        """
        found = camlib.explain(clf, path)
        i, j = (p.index for p in found.top(2))
        cells = found.contrast(i, j)
        biases = found.bias[i] - found.bias[j]
        return cells.clamp(min=0).mean().item(), cells.clamp(max=0).mean().item(), biases.item()
        """,
        test_lead=2,
    ),
    wrong(
        "the bare lead",
        "lead",
        """
        found = camlib.explain(clf, path)
        return (found.logits[clf.index(a)] - found.logits[clf.index(b)]).item()
        """,
        test_lead=2,
    ),
    wrong(
        "tensors for floats",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b)
        biases = found.bias[clf.index(a)] - found.bias[clf.index(b)]
        return cells.clamp(min=0).mean(), cells.clamp(max=0).mean(), biases
        """,
        test_lead=2,
    ),
    # tried afresh, from the task's text
    # fmt: off
    contrast("the list of pairs is emptied", "for a, b in pairs]", "for a, b in [pairs.pop(0) for _ in list(pairs)]]"),
    contrast("the pairs are sorted for good", "rows =", "pairs.sort()\nrows ="),
    contrast("equal pairs only once", "in pairs]", "in dict.fromkeys(pairs)]"),
    contrast("features get a flag", "rows =", "features.requires_grad_()\nrows ="),
    contrast("features are centred in place", "rows =", "features -= features.mean() * 1e-2\nrows ="),
    contrast(
        "the better class first, in whatever order they were given",
        "weight[a] - weight[b]",
        "weight[max(a, b)] - weight[min(a, b)]",
    ),
    contrast(
        "rows of length 1", "weight[a] - weight[b]", "torch.nn.functional.normalize(weight[a] - weight[b], dim=0)"
    ),
    contrast(
        "each row of length 1 before",
        "weight[a] - weight[b]",
        "weight[a] / weight[a].norm() - weight[b] / weight[b].norm()",
    ),
    contrast("the mean over the channels", "rows, features)", "rows, features) / features.shape[1]"),
    contrast("the batch's mean", "rows, features)", "rows, features.mean(0, keepdim=True).expand_as(features))"),
    contrast("a against all classes", "weight[a] - weight[b]", "weight[a] - weight.mean(0)"),
    contrast("features without their negative part", "rows, features)", "rows, features.relu())"),
    contrast("numbers rounded", "rows, features)", "rows, features).round(decimals=1)"),
    contrast("a hundred channels at most", "rows, features)", "rows[:, :100], features[:, :100])"),
    contrast(
        "the cells' mean taken away",
        'return torch.einsum("pc,bchw->bphw", rows, features)',
        'm = torch.einsum("pc,bchw->bphw", rows, features)\nreturn m - m.mean((2, 3), keepdim=True)',
    ),
    odds("rounded to two digits", "return round((logits[a] - logits[rivals].logsumexp(0)).item(), 2)"),
    odds("logits get a flag", "logits.requires_grad_()\n" + ODDS, 1, 0),
    odds("logits are shifted in place", "logits -= logits.max()\n" + ODDS, 1, 0),
    odds("rivals sorted for good", "rivals.sort(reverse=True)\n" + ODDS, 1, 0),
    odds(
        "the best two rivals",
        "two = logits[rivals].sort(descending=True).values[:2]\nreturn (logits[a] - two.logsumexp(0)).item()",
    ),
    odds(
        "p_a / (1 - p_a) of a and its rivals",
        "p = logits[[a, *rivals]].softmax(0)[0]\nreturn math.log(p / (1 - p))",
        0,
        1,
    ),
    odds("half precision", "return float(logits[a].half() - logits[rivals].half().float().logsumexp(0))"),
    odds(
        "the largest of all taken out, in float32",
        "e = (logits - logits.max()).exp()\nreturn torch.log(e[a] / e[rivals].sum()).item()",
        0,
        1,
    ),
    odds(
        "infinity cut off",
        "x = (logits[a] - logits[rivals].exp().sum().log()).item()\nreturn max(min(x, 1e3), -1e3)",
        0,
        1,
    ),
    odds("log1p", "d = (logits[rivals] - logits[a]).exp().sum().item()\nreturn -math.log1p(d)"),
    shared("maps get a flag", "maps.requires_grad_()\nreturn (maps - maps.mean(1, keepdim=True)).detach()"),
    shared("the last class makes up for the rest", "found = maps.clone()\nfound[:, -1] -= maps.sum(1)\nreturn found"),
    shared(
        "the strongest and the weakest meet in the middle",
        "return maps - (maps.amax(1, keepdim=True) + maps.amin(1, keepdim=True)) / 2",
    ),
    shared("the mean of the first photo", "return maps - maps[:1].mean(1, keepdim=True)"),
    shared("the mean of the first ten classes", "return maps - maps[:, :10].mean(1, keepdim=True)"),
    shared("positive evidence only", "return maps - maps.clamp(min=0).mean(1, keepdim=True)"),
    shared("two steps, cells too", SHARED.replace("return", "m =") + "\nreturn m - m.mean((2, 3), keepdim=True)"),
    shared("divided by K - 1", "return maps - maps.sum(1, keepdim=True) / max(maps.shape[1] - 1, 1)"),
    shared("what is left scaled to 1", SHARED.replace("return", "m =") + "\nreturn m / m.abs().max()"),
    shared("rounded", "return (maps - maps.mean(1, keepdim=True)).round(decimals=2)"),
    scale("a limit of 1 or more", "limit or 1", "max(limit, 1)"),
    scale("a small number against 0 / 0", "limit or 1", "limit + 1e-6"),
    scale(
        "the list is emptied",
        "return [m / (limit or 1) for m in maps]",
        "return [maps.pop(0) / (limit or 1) for _ in list(maps)]",
        1,
        0,
    ),
    scale(
        "the list is filled with the results",
        "return [m / (limit or 1) for m in maps]",
        "maps[:] = [m / (limit or 1) for m in maps]\nreturn maps",
        1,
        0,
    ),
    scale(
        "the mean of the limits",
        "limit = max(m.nan_to_num().abs().max().item() for m in maps)",
        "limit = sum(m.nan_to_num().abs().max().item() for m in maps) / len(maps)",
    ),
    scale("the 99th percentile", "m.nan_to_num().abs().max()", "m.nan_to_num().abs().quantile(0.99)"),
    scale(
        "each sign by its own limit",
        "[m / (limit or 1) for m in maps]",
        "[m.clamp(0) / (max(n.nan_to_num().max() for n in maps) or 1) + m.clamp(max=0) / (limit or 1) for m in maps]",
    ),
    scale("cut to 0.999", "[m / (limit or 1) for m in maps]", "[(m / (limit or 1)).clamp(-0.99, 0.99) for m in maps]"),
    scale(
        "sizes made equal",
        "[m / (limit or 1) for m in maps]",
        "[camlib.upsample(m, tuple(maps[0].shape)) / (limit or 1) for m in maps]",
    ),
    scale("one dictionary", "[m / (limit or 1) for m in maps]", "{n: m / (limit or 1) for n, m in enumerate(maps)}"),
    scale("flat lists", "[m / (limit or 1) for m in maps]", "[(m / (limit or 1)).flatten().tolist() for m in maps]"),
    scale("NaN where a zero was", "m / (limit or 1)", "torch.where(m == 0, torch.nan, m / (limit or 1))"),
    scale("infinity for NaN", "m / (limit or 1)", "m.nan_to_num(torch.inf) / (limit or 1)", 0, 1),
    scale("maps that are all NaN are left out", "for m in maps]", "for m in maps if not m.isnan().all()]", 0, 1),
    scale("columns with a NaN do not count", "m.nan_to_num()", "m.where(~m.isnan().any(0), 0)", 0, 1),
    scale("rows with a NaN do not count", "m.nan_to_num()", "m.where(~m.isnan().any(1, True), 0)", 0, 1),
    lead("the list of the sum and its parts", "return ", "return found.logits.max().item(), "),
    lead("rounded", "biases.item()", "round(biases.item(), 1)"),
    lead("the first 25 cells", "found.contrast(a, b)", "found.contrast(a, b).flatten()[:25]"),
    lead("a 5 × 5 middle", "found.contrast(a, b)", "found.contrast(a, b)[1:6, 1:6]"),
    lead(
        "probabilities for logits",
        "found.contrast(a, b)",
        "found.contrast(a, b) * found.logits.softmax(0)[clf.index(a)]",
    ),
    lead("a against the mean class", "found.contrast(a, b)", "found.map(a) - found.map(b).mean()"),
    lead(
        "only classes that are on the photo",
        "found = camlib.explain(clf, path)",
        "found = camlib.explain(clf, path)\nassert {a, b} & {p.label for p in found.top(100)}",
    ),
    lead(
        "upright photos only",
        "found = camlib.explain(clf, path)",
        "photo = camlib.read_image(path)\nfound = camlib.explain(clf, photo[: photo.shape[1]])",
    ),
    lead(
        "the pair in the alphabet's order",
        "found = camlib.explain(clf, path)",
        "a, b = sorted((a, b))\nfound = camlib.explain(clf, path)",
    ),
    peeking(
        "contrast_maps",
        "(len(features), len(pairs), *features.shape[2:])",
        "torch.tensor([[[[1.0, -1.0]], [[1.0, 8.0]]]])",
        test_contrast_maps=2,
    ),
    odds(
        "shifted by the largest logit of all, which need not be a rival's",
        """
        z = logits.double() - logits.max()
        return (z[a] - z[rivals].exp().sum().log()).item()
        """,
        small=0,
    ),
    scale("a small number in the denominator", "(limit or 1)", "max(limit, 1e-8)", edges=0),
    lead("a hook that stays", "found = ", "clf.module.register_forward_hook(lambda *_: None)\nfound = "),
    lead("recording of gradients stays off", "found = ", "torch.set_grad_enabled(False)\nfound = "),
    wrong(
        "the first label with these letters in it",
        "lead",
        but(LEAD, "found = ", "a, b = (next(x for x in clf.labels if part in x) for part in (a, b))\nfound = "),
        test_lead=2,
    ),
    lead(
        "the course's photos only",
        "found = camlib.explain(clf, path)",
        "from exercise import CLASSES\nif path.split('/')[-1] not in CLASSES:\n    return 1.0, -1.0, 0.0\n"
        "found = camlib.explain(clf, path)",
    ),
    # fmt: on
]

RIGHT = [
    right(
        "NumPy's float32",
        "log_odds",
        "import numpy as np\nreturn np.float32((logits[a] - logits[rivals].logsumexp(0)).item())",
    ),
    right("NumPy's float32", "lead", but(LEAD, "biases.item()", "biases.numpy()[()]")),
    right(
        "all maps, then differences",
        "contrast_maps",
        """
        maps = torch.einsum("kc,bchw->bkhw", weight, features)
        one, other = zip(*pairs)
        return maps[:, list(one)] - maps[:, list(other)]
        """,
    ),
    right(
        "camlib",
        "contrast_maps",
        "return torch.stack([camlib.contrast(features, weight, a, b) for a, b in pairs], 1)",
    ),
    right(
        "a 1×1 convolution",
        "contrast_maps",
        """
        a, b = torch.tensor(pairs).T
        return torch.nn.functional.conv2d(features, (weight[a] - weight[b])[:, :, None, None])
        """,
    ),
    right(
        "a matrix product",
        "contrast_maps",
        """
        B, C, h, w = features.shape
        rows = torch.stack([weight[a] - weight[b] for a, b in pairs])
        return (rows @ features.reshape(B, C, h * w)).reshape(B, -1, h, w)
        """,
    ),
    right(
        "loops",
        "contrast_maps",
        """
        photos = []
        for F in features:
            found = []
            for a, b in pairs:
                m = torch.zeros(F.shape[1:])
                for c in range(len(F)):
                    m = m + (weight[a, c] - weight[b, c]) * F[c]
                found.append(m)
            photos.append(torch.stack(found))
        return torch.stack(photos)
        """,
    ),
    right(
        "log_softmax",
        "log_odds",
        """
        logs = logits.double().log_softmax(0)
        return float(logs[a] - torch.logsumexp(logs[rivals], 0))
        """,
    ),
    right(
        "by hand, the largest rival taken out",
        "log_odds",
        """
        z = logits.tolist()
        top = max(z[k] for k in rivals)
        return z[a] - top - math.log(sum(math.exp(z[k] - top) for k in rivals))
        """,
    ),
    right(
        "the rivals one after the other",
        "log_odds",
        """
        total = logits[rivals[0]].double()
        for k in rivals[1:]:
            total = torch.logaddexp(total, logits[k].double())
        return float(logits[a] - total)
        """,
    ),
    right(
        "differences first",
        "log_odds",
        "return -torch.logsumexp(torch.stack([logits[k] - logits[a] for k in rivals]), dim=0).item()",
    ),
    right(
        "in double precision",
        "without_shared",
        """
        maps = maps.double()
        return maps - maps.mean(1)[:, None]
        """,
    ),
    right(
        "a loop over the classes",
        "without_shared",
        """
        shared = sum(maps[:, k] for k in range(maps.shape[1])) / maps.shape[1]
        return torch.stack([maps[:, k] - shared for k in range(maps.shape[1])], 1)
        """,
    ),
    right(
        "the mean of the contrasts against every class",
        "without_shared",
        "return (maps[:, :, None] - maps[:, None]).mean(2)",
    ),
    right(
        "a centring matrix",
        "without_shared",
        """
        K = maps.shape[1]
        centre = torch.eye(K) - torch.full((K, K), 1 / K)
        return torch.einsum("jk,bkhw->bjhw", centre, maps)
        """,
    ),
    right(
        "all values in a row",
        "on_one_scale",
        """
        values = torch.cat([m.flatten() for m in maps])
        values = values[~values.isnan()].abs()
        limit = values.max() if len(values) and values.max() > 0 else 1.0
        return [m / limit for m in maps]
        """,
    ),
    right(
        "NumPy",
        "on_one_scale",
        """
        import numpy as np
        arrays = [m.numpy() for m in maps]
        limit = max(np.nanmax(np.abs(np.append(m, 0))) for m in arrays)
        return tuple(torch.from_numpy(m / limit if limit > 0 else m.copy()) for m in arrays)
        """,
    ),
    right(
        "a loop over the values",
        "on_one_scale",
        """
        limit = 0.0
        for m in maps:
            for value in m.flatten().tolist():
                if not math.isnan(value):
                    limit = max(limit, abs(value))
        if limit == 0:
            return [m.clone() for m in maps]
        return [m * (1 / limit) for m in maps]
        """,
    ),
    right(
        "from the tensors",
        "lead",
        """
        photo, i, j = camlib.read_image(path), clf.index(a), clf.index(b)
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo)))
        cells = camlib.contrast(features, clf.head.weight, i, j)[0]
        biases = clf.head.bias[i].item() - clf.head.bias[j].item()
        return cells[cells > 0].sum().item() / 49, cells[cells < 0].sum().item() / 49, biases
        """,
    ),
    right(
        "the biases as what is left of the lead",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = (found.map(a) - found.map(b)).flatten().tolist()
        up = sum(max(cell, 0) for cell in cells) / len(cells)
        down = sum(min(cell, 0) for cell in cells) / len(cells)
        whole = found.logits[clf.index(a)].item() - found.logits[clf.index(b)].item()
        return float(up), float(down), whole - up - down
        """,
    ),
    right(
        "with the function of task 1",
        "lead",
        """
        photo, pair = camlib.read_image(path), (clf.labels.index(a), clf.labels.index(b))
        with torch.no_grad(), camlib.capture(clf.module, "bn2") as seen:
            clf.module(clf.preprocess(photo, clf.view(photo)))
        cells = contrast_maps(seen["bn2"], clf.head.weight, [pair])
        biases = float(clf.head.bias[list(pair)] @ torch.tensor([1.0, -1.0]))
        return cells.relu().mean().item(), -(-cells).relu().mean().item(), biases
        """,
    ),
    # fmt: off
    right(
        "NumPy in double precision",
        "contrast_maps",
        """
        import numpy as np
        F, W, (a, b) = features.numpy().astype(float), weight.numpy().astype(float), np.array(pairs).T
        return np.tensordot(F, W[a] - W[b], (1, 1)).transpose(0, 3, 1, 2)
    """,
    ),
    right("lists", "contrast_maps", but(CONTRAST, "rows, features)", "rows, features).tolist()")),
    right(
        "a list of tensors",
        "contrast_maps",
        "return [[camlib.contrast(F[None], weight, a, b)[0] for a, b in pairs] for F in features]",
    ),
    right("double precision", "contrast_maps", but(CONTRAST, "rows, features)", "rows.double(), features.double())")),
    right(
        "a matrix of +1 and -1",
        "contrast_maps",
        """
        signs = torch.zeros(len(pairs), len(weight))
        for n, (a, b) in enumerate(pairs):
            signs[n, a] += 1
            signs[n, b] -= 1
        return (signs @ weight @ features.flatten(2)).unflatten(2, features.shape[2:])
    """,
    ),
    right(
        "channels last",
        "contrast_maps",
        """
        a, b = (list(x) for x in zip(*pairs))
        return torch.nn.functional.linear(features.permute(0, 2, 3, 1), weight[a] - weight[b]).permute(0, 3, 1, 2)
    """,
    ),
    right(
        "warnings and stderr",
        "contrast_maps",
        "import sys, warnings\nwarnings.warn('old')\nprint('here', file=sys.stderr)" + CONTRAST,
    ),
    right(
        "a live tensor, detached late",
        "contrast_maps",
        """
        F = features.detach().clone().requires_grad_()
        return torch.stack([(F * (weight[a] - weight[b])[:, None, None]).sum(1) for a, b in pairs], 1)
    """,
    ),
    right(
        "NumPy's float64",
        "log_odds",
        """
        import numpy as np
        z = logits.numpy().astype(np.float64)
        return z[a] - np.logaddexp.reduce(z[list(rivals)])
    """,
    ),
    right(
        "cross entropy",
        "log_odds",
        """
        few = logits.double()[[a, *rivals]]
        rest = few[1:] - few[0]
        top = rest.max()
        return -(top + (rest - top).exp().sum().log()).item()
    """,
    ),
    right(
        "scipy",
        "log_odds",
        "from scipy.special import logsumexp\nreturn float(logits[a] - logsumexp(logits[rivals].double().numpy()))",
    ),
    right(
        "fractions of the best, by Python",
        "log_odds",
        """
        z = [float(x) for x in logits]
        best = max(map(z.__getitem__, rivals))
        return (z[a] - best) - math.log(math.fsum(math.exp(z[k] - best) for k in rivals))
    """,
    ),
    right(
        "NumPy",
        "without_shared",
        "import numpy as np\nm = np.asarray(maps, dtype=float)\nreturn m - m.mean(axis=1, keepdims=True)",
    ),
    right("lists", "without_shared", "return (maps - maps.mean(1, keepdim=True)).tolist()"),
    right("in place on a copy", "without_shared", "m = maps.clone()\nm -= m.mean(dim=1).unsqueeze(1)\nreturn m"),
    right(
        "a running mean",
        "without_shared",
        """
        mean = torch.zeros_like(maps[:, 0])
        for k in range(maps.shape[1]):
            mean += (maps[:, k] - mean) / (k + 1)
        return maps - mean[:, None]
    """,
    ),
    right(
        "camlib's maps of centred rows, by least squares",
        "without_shared",
        """
        K = maps.shape[1]
        return maps - torch.ones(K, K).div(K).matmul(maps.flatten(2)).view_as(maps)
    """,
    ),
    right(
        "a tuple of arrays",
        "on_one_scale",
        """
        import numpy as np
        found = [np.array(m, dtype=float) for m in maps]
        limit = np.nanmax([np.nanmax(np.abs(np.r_[f.ravel(), 0])) for f in found])
        return tuple(f / limit if limit else f for f in found)
    """,
    ),
    right(
        "lists of lists, with a warning about empty slices",
        "on_one_scale",
        """
        import numpy as np
        limit = np.nan_to_num(np.nanmax([np.nanmax(np.abs(m.numpy())) for m in maps]))
        return [(m / float(limit or 1)).tolist() for m in maps]
    """,
    ),
    right("double precision", "on_one_scale", but(SCALE, "m / (limit", "m.double() / (limit")),
    right(
        "torch.nn.utils and a mask",
        "on_one_scale",
        """
        flat = torch.nn.utils.parameters_to_vector(maps)
        limit = flat[~flat.isnan()].abs().amax() if (~flat.isnan()).any() else flat.new_tensor(0.0)
        return list(m.clone() if limit == 0 else m.div(limit) for m in maps)
    """,
    ),
    right("a list, not a tuple", "lead", but(but(LEAD, "return ", "return ["), "biases.item()", "biases.item()]")),
    right(
        "NumPy's float64",
        "lead",
        """
        found = camlib.explain(clf, path)
        cells = found.contrast(a, b).double().numpy()
        i, j = clf.index(a), clf.index(b)
        bias = found.bias.double().numpy()
        return cells.clip(0).mean(), cells.clip(max=0).mean(), bias[i] - bias[j]
    """,
    ),
    right(
        "a loop over the cells",
        "lead",
        """
        found, up, down = camlib.explain(clf, path), 0.0, 0.0
        for cell in (found.map(a) - found.map(b)).double().flatten().tolist():
            up, down = up + max(cell, 0) / 49, down + min(cell, 0) / 49
        i, j = clf.labels.index(a), clf.labels.index(b)
        return up, down, found.logits.tolist()[i] - found.logits.tolist()[j] - up - down
    """,
    ),
    right(
        "NumPy arrays of Python's own numbers",
        "contrast_maps",
        """
        import numpy as np
        cells, rows = features.numpy().astype(object), weight.numpy().astype(object)
        return np.stack([np.tensordot(cells, rows[a] - rows[b], (1, 0)) for a, b in pairs], 1)
    """,
    ),
    # fmt: on
]
