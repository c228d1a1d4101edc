# SPDX-License-Identifier: MIT
"""ATSS' head, and YOLOF's neck and head, in PyTorch for pytorch_reppoints.py; backbone, FPN and class losses are shared with RepPoints
there. Boxes are x1, y1, x2, y2; assignments (N, P): 0 background, -1 ignored, k > 0 = ground truth k - 1."""
import math

import torch
import torch.nn.functional as F
from torch import nn

MAX_LOG_RATIO = abs(math.log(16 / 1000))


def iou(a, b):
    """a (.., P, 1, 4) or alike and b, broadcast; 1e-6 the least area of the union, NaN counts as no overlap."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    common = sides[..., 0] * sides[..., 1]
    areas = [(c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1]) for c in (a, b)]
    return (common / (areas[0] + areas[1] - common).clamp(min=1e-6)).nan_to_num(0)


def giou_loss(predicted, target):
    """1 - GIoU of rows, 1e-6 the least area."""
    low, high = torch.maximum(predicted[..., :2], target[..., :2]), torch.minimum(predicted[..., 2:], target[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = sum((c[..., 2:] - c[..., :2]).prod(-1) for c in (predicted, target)) - common
    union = union.clamp(min=1e-6)
    low, high = torch.minimum(predicted[..., :2], target[..., :2]), torch.maximum(predicted[..., 2:], target[..., 2:])
    enclosing = (high - low).clamp(min=0).prod(-1).clamp(min=1e-6)
    return 1 - (common / union - (enclosing - union) / enclosing)


def decode(anchors, deltas, centre_clamp=0.0):
    centre, size = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
    shift, growth = size * deltas[..., :2], deltas[..., 2:].clamp(max=MAX_LOG_RATIO)
    if centre_clamp > 0:
        shift = shift.clamp(-centre_clamp, centre_clamp)
    else:
        growth = growth.clamp(min=-MAX_LOG_RATIO)
    centre, half = centre + shift, size * growth.exp() / 2
    return torch.cat((centre - half, centre + half), -1)


def base_anchors(stride, scales, ratios):
    """(A, 4) around (0, 0), by ratio and then by scale."""
    rows = []
    for ratio in ratios:
        for scale in scales:
            w, h = stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio)
            rows.append([-w / 2, -h / 2, w / 2, h / 2])
    return torch.tensor(rows, dtype=torch.float64)


def start(module, classifier, bias):
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    classifier.bias.data = torch.tensor(bias)


def nearest(cost, k):
    """The k (at most all) rows of smallest cost along dimension 1 of (N, P, M), ascending, ties to the lower index: (N, k, M)."""
    return torch.sort(cost, dim=1, stable=True).indices[:, :min(k, cost.shape[1])]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x * self.scale


class AtssHead(nn.Module):
    """conv_module(inputs, outputs): 3x3 convolution, norm, ReLU; class_loss: of pytorch_losses.py;
    divisor(assigned, classification): of it, and of what only positives count in."""
    place = 0  # of a cell's point, in strides

    def __init__(self, config, inputs, strides, conv_module, class_loss, divisor):
        super().__init__()
        self.config, self.class_loss, self.divisor, channels = config, class_loss, divisor, config.feat_channels
        self.cls_convs, self.reg_convs = (nn.ModuleList(conv_module(channels if i else inputs, channels)
                                                        for i in range(config.stacked_convs)) for _ in range(2))
        self.atss_cls = nn.Conv2d(channels, len(class_loss.bias()), 3, padding=1)
        self.atss_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.atss_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        start(self, self.atss_cls, class_loss.bias())

    def forward(self, levels, see):
        """logits (N, P, C), scaled deltas (N, P, 4), centerness (N, P, 1); float32 or wider."""
        outputs, dtype = ([], [], []), self.scales[0].scale.dtype
        for l, level in enumerate(levels):
            cls = reg = level
            for conv in self.cls_convs:
                cls = conv(cls)
            for conv in self.reg_convs:
                reg = conv(reg)
            named = {"cls_out": self.atss_cls(cls).to(dtype), "deltas": self.scales[l](self.atss_reg(reg).to(dtype)),
                     "centerness": self.atss_centerness(reg).to(dtype)}
            for rows, (name, value) in zip(outputs, named.items()):
                rows.append(see(f"bbox_head.level{l}.{name}", value).permute(0, 2, 3, 1).flatten(1, 2))
        return [torch.cat(rows, 1) for rows in outputs]

    def assign(self, anchors, strides, truth):
        a, g = anchors.double().view(1, -1, 1, 4), truth.boxes.double().unsqueeze(1)
        overlap = iou(a, g)
        centre = [(c[..., :2] + c[..., 2:]) / 2 for c in (a, g)]
        distance = (centre[0] - centre[1]).square().sum(-1)
        candidates = []
        for stride in strides.unique():  # ascending, as levels are
            rows = (strides == stride).nonzero().squeeze(1)
            candidates.append(rows[nearest(distance[:, rows], self.config.topk)])
        candidates = torch.cat(candidates, 1)
        theirs = overlap.gather(1, candidates)
        threshold = theirs.mean(1, keepdim=True) + theirs.std(1, keepdim=True)
        near = torch.zeros_like(overlap, dtype=torch.bool).scatter(1, candidates, True)
        inside = torch.cat((centre[0] - g[..., :2], g[..., 2:] - centre[0]), -1).amin(-1) > 0.01
        claims = near & inside & (overlap >= threshold) & truth.real.unsqueeze(1)
        best = overlap.masked_fill(~claims, -math.inf)
        largest = best.amax(-1, keepdim=True)
        owner = (best == largest).double().argmax(-1)
        return torch.where(largest.squeeze(-1) > -math.inf, owner + 1, 0)

    def losses(self, outputs, priors, truth, see, inspect=None):
        config, (logits, deltas, centerness) = self.config, outputs
        half = config.anchor_scale * priors[:, 2:] / 2
        anchors = torch.cat((priors[:, :2] - half, priors[:, :2] + half), -1)
        std = torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=deltas.dtype, device=deltas.device)
        boxes = see("bbox_head.boxes", decode(anchors, deltas * std))
        with torch.no_grad():
            assigned = self.assign(anchors, priors[:, 2], truth)
            positive = assigned > 0
            target = truth.boxes.gather(1, (assigned - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, 4)) * positive.unsqueeze(-1)
            before, behind = priors[:, :2] - target[..., :2], target[..., 2:] - priors[:, :2]
            ratio = torch.minimum(before, behind) / torch.maximum(before, behind)
            central = torch.where(positive.unsqueeze(-1), ratio, 0.0).prod(-1).sqrt()
            center = central.sum().clamp(min=1)
        if inspect is not None:
            inspect.update({"targets.assigned": assigned, "targets.centerness": central, "targets.box_normalizer": center,
                            "targets.class_normalizer": self.divisor(assigned, True)})
        bce = F.binary_cross_entropy_with_logits(centerness.squeeze(-1), central, reduction="none")
        return {"loss_cls": self.class_loss(logits, assigned, truth, self.divisor(assigned, True)),
                "loss_bbox": config.box_loss_weight * (giou_loss(boxes, target) * central).sum() / center,
                "loss_centerness": config.centerness_loss_weight * (bce * positive).sum() / self.divisor(assigned, False)}


class BatchNormModule(nn.Module):
    """Convolution without a bias, batch norm, ReLU."""

    def __init__(self, inputs, outputs, kernel, relu, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class EncoderBlock(nn.Module):
    def __init__(self, channels, width, dilation, relu):
        super().__init__()
        self.conv1 = BatchNormModule(channels, width, 1, relu)
        self.conv2 = BatchNormModule(width, width, 3, relu, dilation)
        self.conv3 = BatchNormModule(width, channels, 1, relu)

    def forward(self, x):
        return self.conv3(self.conv2(self.conv1(x))) + x


class DilatedEncoder(nn.Module):
    def __init__(self, config, channels, relu):
        super().__init__()
        self.lateral_conv, self.lateral_norm = nn.Conv2d(channels[-1], config.channels, 1), nn.BatchNorm2d(config.channels)
        self.fpn_conv, self.fpn_norm = nn.Conv2d(config.channels, config.channels, 3, padding=1), nn.BatchNorm2d(config.channels)
        blocks = [EncoderBlock(config.channels, config.block_channels, dilation, relu) for dilation in config.dilations]
        self.dilated_encoder_blocks = nn.Sequential(*blocks)

    def forward(self, stages, see):
        x = self.fpn_norm(self.fpn_conv(self.lateral_norm(self.lateral_conv(stages[-1]))))
        return [see("neck.encoded", self.dilated_encoder_blocks(x))]


class YolofHead(nn.Module):
    """relu, class_loss, divisor: as for AtssHead."""
    place = 0

    def __init__(self, config, inputs, strides, relu, class_loss, divisor):
        super().__init__()
        self.config, self.class_loss, self.divisor, self.channels = config, class_loss, divisor, len(class_loss.bias())
        anchors = base_anchors(strides[0], config.anchor_scales, config.anchor_ratios)
        self.register_buffer("anchors", anchors, persistent=False)
        A = len(anchors)
        self.cls_subnet = nn.Sequential(*(BatchNormModule(inputs, inputs, 3, relu) for _ in range(config.cls_convs)))
        self.bbox_subnet = nn.Sequential(*(BatchNormModule(inputs, inputs, 3, relu) for _ in range(config.reg_convs)))
        self.cls_score = nn.Conv2d(inputs, A * self.channels, 3, padding=1)
        self.bbox_pred = nn.Conv2d(inputs, A * 4, 3, padding=1)
        self.object_pred = nn.Conv2d(inputs, A, 3, padding=1)
        start(self, self.cls_score, class_loss.bias() * A)

    def forward(self, levels, see):
        """joint logits (N, P, C) and deltas (N, P, 4)."""
        cls, reg = see("bbox_head.cls_feat", self.cls_subnet(levels[0])), see("bbox_head.reg_feat", self.bbox_subnet(levels[0]))
        dtype = self.cls_score.bias.dtype

        def rows(x, channels):
            return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, channels)

        scores = rows(self.cls_score(cls).to(dtype), self.channels)
        deltas = see("bbox_head.bbox_pred", self.bbox_pred(reg).to(dtype))
        objectness = rows(see("bbox_head.object_pred", self.object_pred(reg).to(dtype)), 1)
        if not self.class_loss.has_objectness:
            # sigmoid(z) = sigmoid(a) sigmoid(b): z = a + b - log(1 + e^a + e^b)
            several = torch.stack((torch.zeros_like(scores), scores, objectness.expand_as(scores)), -1)
            scores = scores + objectness - several.logsumexp(-1)
        return see("bbox_head.logits", scores), rows(deltas, 4)

    def match(self, anchors, boxes, truth):
        """Assignment, and the list of pairs (N, 2k, M): the prior if kept, else its bitwise complement."""
        g = truth.boxes.double()
        sizes = [torch.cat(((c[..., :2] + c[..., 2:]) / 2, c[..., 2:] - c[..., :2]), -1) for c in (g, boxes.double(), anchors.double())]
        costs = [(c.unsqueeze(-2) - sizes[0].unsqueeze(1)).abs().sum(-1) for c in (sizes[1], sizes[2].unsqueeze(0))]
        chosen = torch.stack([nearest(cost, self.config.match_times) for cost in costs], 2).flatten(1, 2)  # (N, 2k, M)
        by_anchor = iou(anchors.double().view(1, -1, 1, 4), g.unsqueeze(1))
        kept = by_anchor.gather(1, chosen) >= torch.tensor(self.config.pos_ignore_iou, dtype=by_anchor.dtype)
        fits = iou(boxes.double().unsqueeze(2), g.unsqueeze(1)).masked_fill(~truth.real.unsqueeze(1), 0).amax(-1)
        assigned = torch.where(fits > torch.tensor(self.config.neg_ignore_iou, dtype=fits.dtype), -1, 0)
        for n in range(len(chosen)):  # the last pair of the list decides
            for place in range(chosen.shape[1]):
                for m in range(chosen.shape[2]):
                    if truth.real[n, m]:
                        assigned[n, chosen[n, place, m]] = m + 1 if kept[n, place, m] else -1
        pairs = torch.where(kept, chosen, -1 - chosen)
        pairs = torch.where(truth.real.unsqueeze(1), pairs, -2 ** 31)
        return assigned, F.pad(pairs, (0, truth.places - pairs.shape[2]), value=-2 ** 31)

    def losses(self, outputs, priors, truth, see, inspect=None):
        config, (logits, deltas) = self.config, outputs
        anchors = (priors[:, :2].repeat(1, 2).unsqueeze(1) + self.anchors.to(priors.dtype)).flatten(0, 1)
        boxes = see("bbox_head.boxes", decode(anchors, deltas, config.centre_clamp))
        with torch.no_grad():
            assigned, pairs = self.match(anchors, boxes, truth)
        if inspect is not None:
            inspect.update({"targets.assigned": assigned, "targets.pairs": pairs})
            inspect.update({f"targets.{part}_normalizer": self.divisor(assigned, part == "class") for part in ("class", "box")})
        image, _, objects = (pairs >= 0).nonzero(as_tuple=True)
        predicted = boxes[image, pairs[pairs >= 0]]
        return {"loss_cls": self.class_loss(logits, assigned, truth, self.divisor(assigned, True)),
                "loss_bbox": config.box_loss_weight * giou_loss(predicted, truth.boxes[image, objects]).sum() / self.divisor(assigned, False)}
