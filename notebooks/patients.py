"""The listings that chapter 12 and its deep dive show as diffs: each is `right_map` with a change or two.

Which of them are ill is the chapter's question; so nothing here answers it. tests/checks/test_bug_clinic.py holds these
listings and the diffs together.
"""

import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

import camlib
from camlib.models import IMAGENET_MEAN, IMAGENET_STD

MEAN, STD = (torch.tensor(part)[:, None, None] for part in (IMAGENET_MEAN, IMAGENET_STD))


def right_map(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


# Helpers of the patients, both correct


def slopes(clf, x, score):
    """The gradient of a score of the logits (K,) with respect to the features of x (1, 3, H, W): (1280, h, w)."""
    with camlib.capture(clf.module, "bn2", live=True) as seen:
        number = score(clf.module(x)[0])
    return torch.autograd.grad(number, seen["bn2"])[0][0]


def window(photo, view):
    """What the network sees of a photo, resized and cropped, from 0 to 1: (1, 3, H, W)."""
    (height, width), (top, left), (h, w) = view.resized, view.offset, view.size
    resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC)
    return pil_to_tensor(resized.crop((left, top, left + w, top + h)))[None] / 255


# The patients


def patient_4(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = slopes(clf, x, lambda logits: logits[k]).sum((1, 2))
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


def patient_5(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.upsample(cells, photo.shape[:2])
    return k, logits, cells, heat


def patient_6(clf, photo):
    view = clf.view(photo)
    x = (window(photo, view) - MEAN) / STD
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


def patient_7(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = slopes(clf, x, lambda logits: logits.softmax(0)[k]).sum((1, 2))
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


def patient_8(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    layers = row[:, None, None] * seen["bn2"][0]
    cells, heat = layers.sum(0), camlib.place(layers, view).sum(0)
    return k, logits, cells, heat


def patient_9(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier[-1].weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


# Three more, for the chart


def training_mode(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    clf.module.train()
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


def too_early(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "conv_head") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["conv_head"][0])
    heat = camlib.place(cells, view)
    return k, logits, cells, heat


def corners(clf, photo):
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
        logits = clf.module(x)[0]
    k = int(logits.argmax())
    row = clf.module.classifier.weight[k].detach()
    cells = torch.einsum("c,chw->hw", row, seen["bn2"][0])
    heat = place_by_corners(cells, view)
    return k, logits, cells, heat


def place_by_corners(cells, view):
    """As `camlib.place`, but with the middles of the corner cells on the corners of the window."""
    large = F.interpolate(cells[None, None], view.size, mode="bilinear", align_corners=True)
    return camlib.place(large[0, 0], view)
