# SPDX-License-Identifier: MIT
"""FCOS' head in PyTorch for pytorch_reppoints.py: towers, targets and box losses; the rest is shared with RepPoints there."""
import math

import torch
import torch.nn.functional as F
from torch import nn

FLOAT_EPSILON = 2.0 ** -23  # MMDetection adds it to what an averaged loss is divided by


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x * self.scale


class FcosHead(nn.Module):
    """conv_module(inputs, outputs, bias): 3x3 convolution, norm, ReLU; modulated(..): the same with a modulated deformable convolution;
    class_loss: of pytorch_losses.py; divisor(assigned): of it."""
    place = 0.5  # of a cell's point, in strides

    def __init__(self, config, inputs, strides, conv_module, modulated, class_loss, divisor):
        super().__init__()
        self.config, self.class_loss, self.divisor, channels = config, class_loss, divisor, config.feat_channels
        makers = [conv_module] * config.stacked_convs
        if config.dcn_on_last_conv:
            makers[-1] = modulated
        self.cls_convs, self.reg_convs = (nn.ModuleList(make(channels if i else inputs, channels, config.conv_bias)
                                                        for i, make in enumerate(makers)) for _ in range(2))
        self.conv_cls = nn.Conv2d(channels, len(class_loss.bias()), 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        bounds = [-1.0, *config.level_bounds, 1e8]
        self.register_buffer("reach", torch.tensor([[s, low, high] for s, low, high in zip(strides, bounds, bounds[1:])],
                                                   dtype=torch.float64), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if ".conv_offset." in name:
                nn.init.zeros_(parameter)
        self.conv_cls.bias.data = torch.tensor(class_loss.bias())

    def forward(self, levels, see):
        """logits (N, P, C), distances (N, P, 4), centerness (N, P, 1), P the cells of all levels; float32 or wider."""
        outputs, dtype = ([], [], []), self.scales[0].scale.dtype
        for l, level in enumerate(levels):
            cls = reg = level
            for conv in self.cls_convs:
                cls = conv(cls)
            for conv in self.reg_convs:
                reg = conv(reg)
            distances = self.scales[l](self.conv_reg(reg).to(dtype))
            distances = distances.clamp(min=0) if self.config.norm_on_bbox else distances.exp()
            centerness = self.conv_centerness(reg if self.config.centerness_on_reg else cls).to(dtype)
            named = {"cls_out": self.conv_cls(cls).to(dtype), "distances": distances, "centerness": centerness}
            for rows, (name, value) in zip(outputs, named.items()):
                rows.append(see(f"bbox_head.level{l}.{name}", value).permute(0, 2, 3, 1).flatten(1, 2))
        return [torch.cat(rows, 1) for rows in outputs]

    def assign(self, priors, truth):
        """(N, P): 0 background, k > 0 = ground truth k - 1; the smallest object whose claim counts, ties to the lower index."""
        points, boxes = priors.double().unsqueeze(1), truth.boxes.double().unsqueeze(1)  # (P, 1, 3), (N, 1, M, 4)
        sides = torch.cat((points[..., :2] - boxes[..., :2], boxes[..., 2:] - points[..., :2]), -1)  # (N, P, M, 4)
        inside = sides.amin(-1) > 0
        if self.config.center_radius > 0:
            centre, radius = (boxes[..., :2] + boxes[..., 2:]) / 2, self.config.center_radius * points[..., 2:]
            low, high = torch.maximum(centre - radius, boxes[..., :2]), torch.minimum(centre + radius, boxes[..., 2:])
            inside = torch.cat((points[..., :2] - low, high - points[..., :2]), -1).amin(-1) > 0
        _, low, high = self.reach[(priors[:, 2:].double() == self.reach[:, 0]).double().argmax(-1)].unbind(-1)
        reach = sides.amax(-1)
        claims = inside & (reach >= low[:, None]) & (reach <= high[:, None]) & truth.real.unsqueeze(1)
        area = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).expand(claims.shape).masked_fill(~claims, math.inf)
        smallest, owner = area.min(-1)
        owner = (area == smallest.unsqueeze(-1)).double().argmax(-1)
        return torch.where(smallest < math.inf, owner + 1, 0)

    def losses(self, outputs, priors, truth, see, inspect=None):
        config, (logits, predicted, centerness) = self.config, outputs
        with torch.no_grad():
            assigned = self.assign(priors, truth)
            positive = assigned > 0
            target = truth.boxes.gather(1, (assigned - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
            points = priors[:, :2].to(target.dtype)
            target = torch.cat((points - target[..., :2], target[..., 2:] - points), -1) * positive.unsqueeze(-1)
            if config.norm_on_bbox:
                target = target / priors[:, 2:]
            low, high = torch.minimum(target[..., :2], target[..., 2:]), torch.maximum(target[..., :2], target[..., 2:])
            central = torch.where(positive.unsqueeze(-1), low / high, 0.0).prod(-1).sqrt()
            count, center = positive.sum().clamp(min=1), central.sum().clamp(min=1e-6) + FLOAT_EPSILON
        if inspect is not None:
            inspect.update({"targets.assigned": assigned, "targets.centerness": central, "targets.distances": target,
                            "targets.labels": torch.where(positive, truth.labels.gather(1, (assigned - 1).clamp(min=0)), self.class_loss.classes),
                            "targets.class_normalizer": self.divisor(assigned), "targets.box_normalizer": center})
        bce = F.binary_cross_entropy_with_logits(centerness.squeeze(-1), central, reduction="none")
        return {"loss_cls": self.class_loss(logits, assigned, truth, self.divisor(assigned)),
                "loss_bbox": config.box_loss_weight * (self.overlap_loss(predicted, target) * central).sum() / center,
                "loss_centerness": config.centerness_loss_weight * (bce * positive).sum() / count}

    def overlap_loss(self, predicted, target):
        """(N, P) of distances from a shared point, 1e-6 the least area."""
        inner, outer = torch.minimum(predicted, target), torch.maximum(predicted, target)

        def area(sides):
            return (sides[..., 0] + sides[..., 2]).clamp(min=0) * (sides[..., 1] + sides[..., 3]).clamp(min=0)

        common = area(inner)
        union = (area(predicted) + area(target) - common).clamp(min=1e-6)
        overlap = common / union
        if self.config.box_loss == "giou":
            enclosing = area(outer).clamp(min=1e-6)
            return 1 - (overlap - (enclosing - union) / enclosing)
        return -overlap.clamp(min=1e-6).log()
