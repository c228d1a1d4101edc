#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""RepPoints, FCOS, ATSS or YOLOF on ResNet in PyTorch: the opponent that gradlibra is checked against and timed against.

The network, targets, losses, gradient clipping and SGD step of a resolved configuration (`inspect config`, or the config.yaml of a
training), written for speed as a PyTorch user would: vectorised assigners without a loop over images, channels-last maps, autocast,
foreach or fused SGD, torch.compile. Parameters have the names that gradlibra and MMDetection give them.

  inspect config --config configs/quickstart.yaml > resolved.yaml
  inspect step --config configs/quickstart.yaml --output step.safetensors
  pytorch_reppoints.py check --config resolved.yaml --step step.safetensors
  pytorch_reppoints.py bench --config resolved.yaml --batch 2 --size 512 512 --precision fp32 --device cpu --threads 2
  pytorch_reppoints.py bench --config resolved.yaml --batch 32,8 --size 512 512 --precision bf16,tf32 --compile off,on --device cuda

Needs PyTorch 1.13 or newer (Debian: python3-torch), numpy, and PyYAML unless the configuration is JSON. Deformable convolution comes from
torchvision on a GPU and from embedding_bag elsewhere, unless --deform says otherwise. With --threads 1, PyTorch before 2 computes 1x1
convolutions through BLAS instead of oneDNN: Debian's libopenblas0-pthread makes the difference.
"""
import argparse
import contextlib
import gc
import itertools
import json
import math
import resource
import statistics
import struct
import sys
import time
import traceback

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_anchors import AtssHead, DilatedEncoder, YolofHead
from pytorch_fcos import FcosHead
from pytorch_losses import divisor, make_class_loss
from torch import nn

try:
    import torchvision
except ImportError:  # only a GPU run cannot do without
    torchvision = None

# Stages of ResNet by depth.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


# -------------------------------------------------------------------------------------- files

def read_safetensors(path):
    """Name to numpy array: a length, a JSON header with type, shape and place of every tensor, then their bytes."""
    types = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8}
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items() for begin, end in [entry["data_offsets"]]}


class Section:
    """A mapping of the configuration with its keys as attributes. Numbers that YAML 1.1 takes for text (1e-06) become numbers."""

    def __init__(self, entries):
        self.entries = {}
        for key, value in entries.items():
            if isinstance(value, dict):
                value = Section(value)
            elif isinstance(value, str):
                with contextlib.suppress(ValueError):
                    value = float(value)
            self.entries[key] = value

    def __getattr__(self, key):
        try:
            return self.__dict__["entries"][key]
        except KeyError:
            raise AttributeError(f"the configuration has no key '{key}'; give the resolved one that `inspect config` prints") from None


def read_config(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.lstrip().startswith("{"):
        return Section(json.loads(text))
    try:
        import yaml
    except ImportError:
        sys.exit("PyYAML is missing (Debian: apt-get install python3-yaml); a configuration in JSON works without it")
    return Section(yaml.safe_load(text))


# -------------------------------------------------------------------------------------- deformable convolution
# x (N, C, H, W), offsets (N, 2*K*K, H, W) beyond the regular grid, y before x; K odd, stride 1 (arXiv:1703.06211).
# Samples outside read 0. With a mask (N, K*K, H, W) samples are multiplied by it (arXiv:1811.11168).

def deform_torchvision(x, offsets, weight, mask=None):
    return torchvision.ops.deform_conv2d(x, offsets, weight, padding=weight.shape[2] // 2, mask=mask)


def tap_positions(offsets, kernel):
    """py, px (N, H, W, K*K): where each tap reads."""
    N, _, H, W = offsets.shape
    steps = torch.arange(kernel, device=offsets.device, dtype=offsets.dtype) - kernel // 2
    rows = torch.arange(H, device=offsets.device, dtype=offsets.dtype).view(H, 1, 1) + steps.repeat_interleave(kernel)
    columns = torch.arange(W, device=offsets.device, dtype=offsets.dtype).view(1, W, 1) + steps.repeat(kernel)
    y, x = offsets.permute(0, 2, 3, 1).reshape(N, H, W, kernel * kernel, 2).unbind(-1)
    return rows + y, columns + x


def deform_grid_sample(x, offsets, weight, mask=None):
    """Planes: all taps as rows of one tall sampling grid, then a 1x1 convolution over C*K*K channels."""
    N, C, H, W = x.shape
    O, _, K, _ = weight.shape
    py, px = tap_positions(offsets, K)
    grid = torch.stack(((2 * px + 1) / W - 1, (2 * py + 1) / H - 1), -1)
    grid = grid.permute(0, 3, 1, 2, 4).reshape(N, K * K * H, W, 2)
    samples = F.grid_sample(x.contiguous(), grid, padding_mode="zeros", align_corners=False)
    if mask is not None:
        samples = samples * mask.reshape(N, 1, K * K * H, W)
    return F.conv2d(samples.view(N, C * K * K, H, W), weight.reshape(O, C * K * K, 1, 1))


def deform_embedding_bag(x, offsets, weight, mask=None):
    """Rows: a sample is the weighted sum of four rows of C channels, which is what embedding_bag computes; then a 1x1 convolution."""
    N, C, H, W = x.shape
    O, _, K, _ = weight.shape
    py, px = tap_positions(offsets, K)
    y0, x0 = py.detach().floor(), px.detach().floor()
    ly, lx = py - y0, px - x0
    y, x_ = torch.stack((y0, y0, y0 + 1, y0 + 1), -1), torch.stack((x0, x0 + 1, x0, x0 + 1), -1)
    reaches = ((py > -1) & (py < H) & (px > -1) & (px < W)).unsqueeze(-1)
    inside = (y >= 0) & (y < H) & (x_ >= 0) & (x_ < W) & reaches
    shares = torch.stack(((1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx), -1) * inside
    if mask is not None:
        shares = shares * mask.permute(0, 2, 3, 1).unsqueeze(-1)
    first = torch.arange(N, device=x.device).view(N, 1, 1, 1, 1) * (H * W)
    cells = first + y.clamp(0, H - 1).long() * W + x_.clamp(0, W - 1).long()
    rows = x.permute(0, 2, 3, 1).reshape(N * H * W, C)
    samples = F.embedding_bag(cells.view(-1, 4), rows, per_sample_weights=shares.view(-1, 4), mode="sum")
    samples = samples.view(N, H, W, K * K * C).permute(0, 3, 1, 2)
    return F.conv2d(samples, weight.permute(0, 2, 3, 1).reshape(O, K * K * C, 1, 1))


DEFORM = {"torchvision": deform_torchvision, "grid_sample": deform_grid_sample, "embedding_bag": deform_embedding_bag}


def choose_deform(name, device):
    if name == "auto":
        name = "torchvision" if torchvision is not None and device == "cuda" else "embedding_bag"
    if name == "torchvision" and torchvision is None:
        sys.exit("torchvision is missing (Debian: apt-get install python3-torchvision)")
    return name


# -------------------------------------------------------------------------------------- network

class Relu:
    """ReLU in place. While `kink` is set, the value stays and the gradient passes where x > kink * rms(x) instead of x > 0."""

    def __init__(self):
        self.kink = None

    def __call__(self, x):
        if self.kink is None:
            return F.relu(x, inplace=True)
        linear = x * (x > self.kink * x.detach().square().mean().sqrt())
        return linear + (F.relu(x) - linear).detach()


relu = Relu()


def beside_cells(taps):
    """Sampling positions. While relu.kink is set, those within |kink| of a whole number, where the derivative jumps, lie that far above it, or
    below where kink < 0."""
    if relu.kink is None:
        return taps
    whole = taps.detach().round()
    near = (taps.detach() - whole).abs() < abs(relu.kink)
    return torch.where(near, taps + (whole + relu.kink - taps).detach(), taps)


class Block(nn.Module):
    """A residual block of ResNet, basic or bottleneck, with torchvision's names."""

    def __init__(self, inputs, width, stride, bottleneck, style):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strided = 1 if bottleneck and style == "pytorch" else 0
        self.count, channels = len(kernels), inputs
        for i, kernel in enumerate(kernels):
            to = outputs if i == self.count - 1 else width
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, to, kernel, stride if i == strided else 1, kernel // 2, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(to))
            channels = to
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = relu(y)
        y += x if self.downsample is None else self.downsample(x)
        return relu(y)


class ResNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, bottleneck, channels = config, config.depth >= 50, config.base_channels
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.channels = []
        for s, count in enumerate(BLOCKS[config.depth]):
            width, blocks = config.base_channels << s, []
            for b in range(count):
                blocks.append(Block(channels, width, 2 if s > 0 and b == 0 else 1, bottleneck, config.style))
                channels = 4 * width if bottleneck else width
            self.add_module(f"layer{s + 1}", nn.Sequential(*blocks))
            self.channels.append(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if isinstance(module, Block) and config.zero_init_residual:
                nn.init.zeros_(getattr(module, f"bn{module.count}").weight)
        if not config.norm_trainable:
            for norm in self.norms(self):
                norm.requires_grad_(False)
        for part in self.frozen():
            part.requires_grad_(False)

    @staticmethod
    def norms(module):
        return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]

    def frozen(self):
        if self.config.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1] + [getattr(self, f"layer{s}") for s in range(1, self.config.frozen_stages + 1)]

    def train(self, mode=True):
        """Batch norm keeps to its stored statistics in frozen parts, and everywhere with norm_eval."""
        super().train(mode)
        for part in [self] if self.config.norm_eval else self.frozen():
            for norm in self.norms(part):
                norm.eval()
        return self

    def forward(self, x, see):
        x = see("backbone.stem", relu(self.bn1(self.conv1(x))))
        x = F.max_pool2d(x, 3, 2, 1)
        stages = []
        for s in range(1, 5):
            x = see(f"backbone.c{s + 1}", getattr(self, f"layer{s}")(x))
            stages.append(x)
        return stages


class ConvModule(nn.Module):
    """Convolution, then group norm if there is one (the convolution then has no bias unless told), then ReLU if asked for."""

    def __init__(self, inputs, outputs, kernel, stride, norm, groups, relu, bias=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias or norm != "group")
        self.gn = nn.GroupNorm(groups, outputs) if norm == "group" else None
        self.relu = relu

    def forward(self, x):
        x = self.conv(x)
        if self.gn is not None:
            x = self.gn(x)
        return relu(x) if self.relu else x


class ModulatedConv(nn.Module):
    """3x3, with MMCV's names of parameters; conv_offset gives offsets, then logits of the mask, and starts at 0."""

    def __init__(self, inputs, outputs, bias, deform):
        super().__init__()
        self.deform, bound = deform, 1 / math.sqrt(9 * inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.conv_offset = nn.Conv2d(inputs, 27, 3, padding=1)

    def forward(self, x):
        """Sampled in float32 under autocast, as RepPoints' (RepPointsHead.deformable)."""
        prediction = self.conv_offset(x)
        with torch.autocast(x.device.type, enabled=False):
            prediction = prediction.to(self.weight.dtype)
            y = self.deform(x.to(self.weight.dtype), beside_cells(prediction[:, :18]), self.weight, prediction[:, 18:].sigmoid())
            return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


def modulated_module(inputs, outputs, norm, groups, bias, deform):
    module = ConvModule(inputs, outputs, 3, 1, norm, groups, True, bias)
    module.conv = ModulatedConv(inputs, outputs, module.conv.bias is not None, DEFORM[deform])
    return module


class Fpn(nn.Module):
    def __init__(self, config, channels):
        super().__init__()
        self.config, used, out = config, len(channels) - config.start_level, config.out_channels
        self.lateral_convs, self.fpn_convs = nn.ModuleList(), nn.ModuleList()
        for inputs in channels[config.start_level:]:
            self.lateral_convs.append(ConvModule(inputs, out, 1, 1, config.norm, config.norm_groups, False))
        for i in range(used if config.extra == "max_pool" else config.num_outs):
            inputs = channels[-1] if i == used and config.extra == "on_input" else out
            self.fpn_convs.append(ConvModule(inputs, out, 3, 1 if i < used else 2, config.norm, config.norm_groups, False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, stages, see):
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, stages[self.config.start_level:])]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[2:], mode="nearest")
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        for i in range(len(laterals), self.config.num_outs):
            if self.config.extra == "max_pool":
                levels.append(F.max_pool2d(levels[-1], 1, 2))
                continue
            source = levels[-1]
            if i == len(laterals):
                source = {"on_input": stages[-1], "on_lateral": laterals[-1], "on_output": levels[-1]}[self.config.extra]
            elif self.config.relu_before_extra:
                source = relu(source.clone())  # the original is a level too
            levels.append(self.fpn_convs[i](source))
        return [see(f"neck.p{i + self.config.start_level + 2}", level) for i, level in enumerate(levels)]


def scale_gradient(x, factor):
    """x, whose gradient is multiplied by the factor; the value is exact."""
    return x.detach() + factor * (x - x.detach())


class DeformWeight(nn.Module):
    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))


class RepPointsHead(nn.Module):
    place = 0  # of a cell's point, in strides

    def __init__(self, config, loss, inputs, strides, class_loss, deform):
        super().__init__()
        self.config, self.loss_config, self.class_loss, self.deform = config, loss, class_loss, DEFORM[deform]
        side, F_, points = math.isqrt(config.num_points), config.feat_channels, config.point_channels
        channels = 4 if config.use_grid_points else 2 * config.num_points
        if config.transform == "moment":
            self.moment_transfer = nn.Parameter(torch.zeros(2))
        self.cls_convs, self.reg_convs = nn.ModuleList(), nn.ModuleList()
        for i in range(config.stacked_convs):
            for tower in (self.cls_convs, self.reg_convs):
                tower.append(ConvModule(inputs if i == 0 else F_, F_, 3, 1, config.norm, config.norm_groups, True))
        self.reppoints_cls_conv = DeformWeight(F_, points, side)
        self.reppoints_cls_out = nn.Conv2d(points, len(class_loss.bias()), 1)
        self.reppoints_pts_init_conv = nn.Conv2d(F_, points, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(points, channels, 1)
        self.reppoints_pts_refine_conv = DeformWeight(F_, points, side)
        self.reppoints_pts_refine_out = nn.Conv2d(points, channels, 1)
        steps = torch.arange(side, dtype=torch.float32) - side // 2
        base = torch.stack((steps.repeat_interleave(side), steps.repeat(side)), -1).view(1, -1, 1, 1)
        self.register_buffer("base", base, persistent=False)
        self.register_buffer("levels", torch.tensor(strides, dtype=torch.float64), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, DeformWeight):
                bound = math.sqrt(6 / (config.num_points * F_))
                if config.deform_init == "uniform":
                    nn.init.uniform_(module.weight, -bound, bound)
                else:
                    nn.init.normal_(module.weight, std=0.01)
        self.reppoints_cls_out.bias.data = torch.tensor(class_loss.bias())

    def deformable(self, x, offsets, layer):
        """In float32 under autocast: torchvision has no bfloat16 version, and offsets in bfloat16 would miss their cells."""
        with torch.autocast(x.device.type, enabled=False):
            dtype = layer.weight.dtype
            return self.deform(x.to(dtype), offsets, layer.weight)

    def grid(self, output, previous):
        """Points (N, 2K, H, W) of the regular grid on boxes that output (N, 4, H, W) makes of previous ones, and these boxes, detached."""
        low, high = previous[:, :2], previous[:, 2:]
        size = (high - low).clamp(min=1e-6)
        extent = size * output[:, 2:].exp()
        first = (low + high) / 2 + size * output[:, :2] - extent / 2
        places = (self.base / self.base.max() + 1) / 2  # y before x, 0 to 1
        y_before_x = [axis.flip(1).repeat(1, self.config.num_points, 1, 1) for axis in (first, extent)]
        return y_before_x[0] + y_before_x[1] * places, torch.cat((first, first + extent), 1).detach()

    def forward(self, levels, see):
        """logits (N, P, C), init and refine offsets (N, P, 2K), P the cells of all levels; float32 or wider."""
        outputs = ([], [], [])
        for l, level in enumerate(levels):
            cls = reg = level
            for conv in self.cls_convs:
                cls = conv(cls)
            for conv in self.reg_convs:
                reg = conv(reg)
            name = f"bbox_head.level{l}."
            cls, reg = see(name + "cls_feat", cls), see(name + "reg_feat", reg)
            init = self.reppoints_pts_init_out(relu(self.reppoints_pts_init_conv(reg))).to(self.base.dtype)
            half = self.config.point_base_scale / 2
            if self.config.use_grid_points:
                init, box = self.grid(init, init.new_tensor([-half, -half, half, half]).view(1, 4, 1, 1))
            elif not self.config.center_init:
                init = init + self.base / self.base.max() * half
            init = see(name + "pts_init", init)
            taps = beside_cells(scale_gradient(init, self.config.gradient_mul) - self.base)
            cls, reg = self.deformable(cls, taps, self.reppoints_cls_conv), self.deformable(reg, taps, self.reppoints_pts_refine_conv)
            logits = self.reppoints_cls_out(relu(cls)).to(self.base.dtype)
            refine = self.reppoints_pts_refine_out(relu(reg)).to(self.base.dtype)
            refine = self.grid(refine, box)[0] if self.config.use_grid_points else refine + init.detach()
            refine = see(name + "pts_refine", refine)
            for rows, value in zip(outputs, (see(name + "cls_out", logits), init, refine)):
                rows.append(value.permute(0, 2, 3, 1).flatten(1, 2))
        return [torch.cat(rows, 1) for rows in outputs]

    def boxes(self, offsets, priors):
        """offsets (N, P, 2K), y before x, in strides, to boxes (N, P, 4) in pixels."""
        points = offsets.unflatten(-1, (-1, 2)).flip(-1)  # (N, P, K, 2): x, y
        if self.config.transform == "moment":
            shifted = points - points[..., :1, :]  # equal points then have a deviation of exactly 0
            centre, deviation = points[..., 0, :] + shifted.mean(-2), shifted.std(-2)
            half = deviation * scale_gradient(self.moment_transfer, self.config.moment_mul).exp()
            low, high = centre - half, centre + half
        else:
            if self.config.transform == "partial_minmax":
                points = points[..., :4, :]
            low, high = points.min(-2).values, points.max(-2).values
        return torch.cat((low, high), -1) * priors[:, 2:] + priors[:, :2].repeat(1, 2)

    def losses(self, outputs, priors, truth, see, inspect=None):
        config, (logits, init, refine) = self.config, outputs
        init_boxes = see("bbox_head.init_boxes", self.boxes(init, priors))
        refine_boxes = see("bbox_head.refine_boxes", self.boxes(refine, priors))
        with torch.no_grad():
            init_assigned = assign_points(priors, self.levels, truth, config.point_base_scale, config.init_pos_num)
            refine_assigned = assign_by_iou(init_boxes, truth, config.refine_pos_iou, config.refine_neg_iou, config.refine_min_pos_iou)
            divisors = {"init": divisor(self.loss_config, init_assigned, False), "refine": divisor(self.loss_config, refine_assigned, False)}
        if inspect is not None:
            shown = {"init": divisors["init"], "refine": divisor(self.loss_config, refine_assigned, True)}
            inspect.update({f"targets.{stage}_normalizer": count for stage, count in shown.items()})
            inspect.update({"targets.init_assigned": init_assigned, "targets.refine_assigned": refine_assigned})
        return {
            "loss_cls": self.class_loss(logits, refine_assigned, truth, divisor(self.loss_config, refine_assigned, True)),
            "loss_pts_init": config.init_loss_weight * self.box_loss(init_boxes, init_assigned, priors, truth) / divisors["init"],
            "loss_pts_refine": config.refine_loss_weight * self.box_loss(refine_boxes, refine_assigned, priors, truth) / divisors["refine"],
        }

    def box_loss(self, boxes, assigned, priors, truth):
        """In units of point_base_scale strides, positives only."""
        target = truth.boxes.gather(1, (assigned - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
        scale = 1 / (self.config.point_base_scale * priors[:, 2:])
        entries = F.smooth_l1_loss(boxes * scale, target * scale, reduction="none", beta=self.config.smooth_l1_beta)
        return (entries * (assigned > 0).unsqueeze(-1)).sum()


class Truth:
    """boxes (N, M, 4), labels (N, M), real (N, M): padded ground truth, M at least 1 so that nothing has to ask whether there is any."""

    def __init__(self, boxes, labels, counts):
        M, self.places = max(1, int(counts.max())), boxes.shape[1]
        self.boxes, self.labels = boxes[:, :M], labels[:, :M].long()
        self.real = torch.arange(M, device=boxes.device) < counts[:, None]


class Detector(nn.Module):
    def __init__(self, config, instances, deform):
        """instances: boxes of each class in the training split."""
        super().__init__()
        model, loss = config.model, config.model.loss
        self.class_loss = class_loss = make_class_loss(loss, instances)
        self.backbone = ResNet(model.backbone)
        if model.detector == "yolof":
            self.neck, self.strides = DilatedEncoder(model.yolof.encoder, self.backbone.channels, relu), [32]
        else:
            self.neck = Fpn(model.neck, self.backbone.channels)
            self.strides = [4 << (model.neck.start_level + i) for i in range(model.neck.num_outs)]

        def divide(assigned, classification=True):
            return divisor(loss, assigned, classification)

        if model.detector == "reppoints":
            self.bbox_head = RepPointsHead(model.head, loss, model.neck.out_channels, self.strides, class_loss, deform)
        elif model.detector == "fcos":
            head = model.fcos
            self.bbox_head = FcosHead(
                head, model.neck.out_channels, self.strides,
                lambda inputs, outputs, bias: ConvModule(inputs, outputs, 3, 1, head.norm, head.norm_groups, True, bias),
                lambda inputs, outputs, bias: modulated_module(inputs, outputs, head.norm, head.norm_groups, bias, deform), class_loss, divide)
        elif model.detector == "atss":
            head = model.atss
            self.bbox_head = AtssHead(
                head, model.neck.out_channels, self.strides,
                lambda inputs, outputs: ConvModule(inputs, outputs, 3, 1, head.norm, head.norm_groups, True), class_loss, divide)
        elif model.detector == "yolof":
            self.bbox_head = YolofHead(model.yolof, model.yolof.encoder.channels, self.strides, relu, class_loss, divide)
        else:
            sys.exit(f"model.detector: {model.detector} is not written in PyTorch here")

    def priors(self, height, width, device):
        """(P, 3): x, y of the cells' points, stride of the cells of all levels."""
        rows = []
        H, W = height, width
        for halvings in range(1, int(math.log2(self.strides[-1])) + 1):
            H, W = (H + 1) // 2, (W + 1) // 2
            stride = 1 << halvings
            if stride in self.strides:
                y, x = (stride * (torch.arange(size) + float(self.bbox_head.place)) for size in (H, W))
                y, x = torch.meshgrid(y, x, indexing="ij")
                rows.append(torch.stack((x, y, torch.full_like(x, stride)), -1).view(-1, 3))
        return torch.cat(rows).to(device, self.backbone.conv1.weight.dtype)

    def forward(self, images, priors, truth, see=lambda name, value: value, inspect=None, autocast=False):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            outputs = self.bbox_head(self.neck(self.backbone(images, see), see), see)
        return self.bbox_head.losses(outputs, priors, truth, see, inspect)


# -------------------------------------------------------------------------------------- targets
# Assignments (N, P): 0 background, -1 ignored, k > 0 = ground truth k - 1.

def uncompiled(function):
    """Runs eagerly inside what torch.compile compiles. Assigners compare values that they have computed before with ==; compiled, such
    a value is computed again in each fused kernel and may differ in its last bit there: PyTorch 2.11 so finds no nearest point on a GPU,
    and then reads past the end."""
    compiler = getattr(torch, "compiler", None)
    return compiler.disable(function) if hasattr(compiler, "disable") else function


@uncompiled
def assign_points(priors, levels, truth, scale, k):
    """PointAssigner: a box goes to the k nearest points of its level, a point to the nearest such box; ties to the lower index.
    levels: the strides among the priors. In double precision: boxes of whole pixels are often equally far from two points."""
    boxes, strides = truth.boxes.double(), priors[:, 2].double()
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    area = size.prod(-1, keepdim=True)
    level = torch.where(area >= (scale * levels) ** 2, levels, levels[0]).amax(-1, keepdim=True)
    dx = (priors[:, 0].double() - centre[..., :1]) * size[..., 1:]
    dy = (priors[:, 1].double() - centre[..., 1:]) * size[..., :1]
    distance = ((dx * dx + dy * dy) / (area * area)).masked_fill((strides != level) | ~truth.real.unsqueeze(-1), math.inf)
    claims, left = torch.full_like(distance, math.inf), distance
    for _ in range(k):
        nearest = left.argmin(-1, keepdim=True)
        claims = claims.scatter(-1, nearest, left.gather(-1, nearest))
        left = left.scatter(-1, nearest, math.inf)
    claim, owner = claims.min(1).values, claims.argmin(1)
    return torch.where(claim < math.inf, owner + 1, 0)


@uncompiled
def assign_by_iou(boxes, truth, pos_iou, neg_iou, min_pos_iou):
    """MaxIoUAssigner with low-quality matches: a box that ties for a ground truth's best overlap is that one's, the last such one's."""
    a, b = boxes.unsqueeze(2), truth.boxes.unsqueeze(1)
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    common = sides[..., 0] * sides[..., 1]
    areas = [(c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1]) for c in (a, b)]
    iou = (common / (areas[0] + areas[1] - common).clamp(min=1e-6)).nan_to_num(0)  # (N, P, M)
    iou = iou.masked_fill(~truth.real.unsqueeze(1), -1)
    largest, best = iou.max(-1).values, iou.argmax(-1)
    assigned = torch.where(largest >= pos_iou, best + 1, torch.where(largest < neg_iou, 0, -1))
    best_of_truth = iou.amax(1, keepdim=True)
    owns = (iou == best_of_truth) & (best_of_truth >= min_pos_iou) & truth.real.unsqueeze(1)
    last = (owns * torch.arange(1, iou.shape[-1] + 1, device=iou.device)).amax(-1)
    return torch.where(last > 0, last, assigned)


# -------------------------------------------------------------------------------------- check

# PyTorch in float64 is the measure: |x - exact|_2 / |exact|_2 of a tensor, x being gradlibra's or that of PyTorch in
# float32. Gradlibra's may be at most this, by kind of tensor, plus OWN times PyTorch's: deep networks with batch norm
# over few cells magnify any rounding.
BOUNDS = {"values": 1e-5, "targets": 0.0, "losses": 1e-6, "gradients": 1e-5}
OWN = 4
# What a loss makes of the annotations is made here as well, not taken from the file.
FIXED = ("bags.groups", "class_balanced.weights")
# A ReLU's input that is zero up to rounding may pass the gradient on one side and not on the other, which is as right.
# So gradients may also differ by as much as they do when every input within this multiple of the values' deviation
# passes and when none does; likewise of a deformable convolution's sample that lies on a cell, up to rounding.
KINK = 4


def difference(got, want):
    return np.linalg.norm(np.asarray(got, np.float64).ravel() - np.asarray(want, np.float64).ravel())


def deviation(got, want):
    """Relative in the L2 norm; 0 for two zeros, NaN where either has one, so that no comparison accepts it."""
    if np.shape(got) != np.shape(want):
        return math.nan
    size, apart = np.linalg.norm(np.asarray(want, np.float64).ravel()), difference(got, want)
    return 0.0 if apart == 0 else apart / size if size > 0 else apart * math.inf


def kind_of(name):
    if name in ("targets.centerness", "targets.distances", "targets.box_normalizer"):  # computed, not chosen
        return "values"
    return {"grad": "gradients", "loss": "losses", "targets": "targets"}.get(name.split("/")[0].split(".")[0], "values")


def group_of(name, parameters):
    """A row of the table."""
    if not name.startswith("grad/"):
        return f"{kind_of(name)}, {name.split('.')[0]}" if kind_of(name) == "values" else kind_of(name)
    name = name[len("grad/"):]
    return f"gradients of {'parameters' if name in parameters else 'values'}, {name.split('.')[0]}"


def run_step(detector, images, truth, kink=None):
    """Every value, target, loss and gradient of one step by the names of `inspect step`."""
    values, found = {}, {}

    def see(name, value):
        values[name] = value
        if value.requires_grad:
            value.retain_grad()
        return value

    relu.kink = kink
    detector.zero_grad(set_to_none=True)
    losses = detector(images, detector.priors(*images.shape[2:], images.device), truth, see, found)
    sum(losses.values()).backward()
    found.update(values)
    found.update({f"loss.{name}": value for name, value in losses.items()})
    found.update({f"next/{name}": value for name, value in detector.class_loss.next.items()})
    found.update({f"grad/{name}": value.grad for name, value in values.items() if value.grad is not None})
    found.update({f"grad/{name}": torch.zeros_like(p) if p.grad is None else p.grad.clone()
                  for name, p in detector.named_parameters() if p.requires_grad})
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def load_detector(options, step):
    """The network of the configuration with the file's weights, in float64."""
    parameters = {name[len("param/"):]: torch.from_numpy(value.copy()) for name, value in step.items() if name.startswith("param/")}
    config = read_config(options.config)
    detector = Detector(config, step["gt.instances"].tolist(), choose_deform(options.deform, options.device))
    state = {name[len("state/"):]: torch.from_numpy(value.copy()) for name, value in step.items() if name.startswith("state/")}
    made = {name: detector.class_loss.state[name] for name in FIXED if name in detector.class_loss.state}
    detector.class_loss.state = {**state, **made}
    detector.class_loss.to(options.device)
    mine, theirs = set(detector.state_dict()), set(parameters)
    missing = sorted(name for name in mine - theirs if not name.endswith("num_batches_tracked"))
    if missing or theirs - mine:
        sys.exit(f"{options.step} does not fit {options.config}: missing {missing[:5]}, unknown {sorted(theirs - mine)[:5]}")
    detector.load_state_dict(parameters, strict=False)
    return detector.to(options.device, torch.float64, memory_format=torch.channels_last).train()


def check(options):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if options.threads:
        torch.set_num_threads(options.threads)
    step = read_safetensors(options.step)
    detector = load_detector(options, step)

    def batch(dtype):
        images, *truth = [torch.from_numpy(step[name].copy()).to(options.device) for name in ("input", "gt.boxes", "gt.labels", "gt.counts")]
        return images.to(dtype, memory_format=torch.channels_last), Truth(truth[0].to(dtype), *truth[1:])

    images, truth = batch(torch.float64)
    exact = run_step(detector, images, truth)
    ours = {name: value for name, value in step.items() if not name.startswith(("param/", "state/", "gt.")) and name != "input"}
    failures = [f"{name}: only gradlibra has it" for name in sorted(set(ours) - set(exact))]
    failures += [f"{name}: only PyTorch has it" for name in sorted(set(exact) - set(ours))]
    common = sorted(set(exact) & set(ours))
    apart = {name: deviation(ours[name], exact[name]) for name in common}
    kink = KINK * max(apart[name] for name in common if kind_of(name) == "values")
    kink = min(kink, 1e-3)  # also where a value is NaN
    none, every = run_step(detector, images, truth, kink), run_step(detector, images, truth, -kink)
    theirs = run_step(detector.float(), *batch(torch.float32))

    parameters, rows = dict(detector.named_parameters()), {}
    for name in common:
        own, kinks = deviation(theirs[name], exact[name]), 0.0
        if kind_of(name) == "gradients":
            size = np.linalg.norm(exact[name].ravel())
            kinks = difference(none[name], every[name]) / size if size > 0 else 0.0
        allowed = BOUNDS[kind_of(name)] + (OWN * own + kinks if kind_of(name) != "targets" else 0)
        if not apart[name] <= allowed:
            failures.append(f"{name}: {apart[name]:.3g}, allowed {allowed:.3g}")
        if name.endswith("assigned") and apart[name] != 0:
            cells = np.argwhere(exact[name] != ours[name])
            failures += [f"{name}: image {n}, cell {p}: gradlibra {ours[name][n, p]}, PyTorch {exact[name][n, p]}" for n, p in cells[:8]]
        shown = apart[name] if apart[name] == apart[name] else math.inf
        rows.setdefault(group_of(name, parameters), []).append((shown, name, own, kinks))

    assigned = [ours[name] for name in common if name.endswith("assigned")]
    positives = " and ".join(str(int((rows > 0).sum())) for rows in assigned)
    print(f"PyTorch {torch.__version__}, {options.device}, deformable convolution by {choose_deform(options.deform, options.device)}; input "
          f"{' x '.join(map(str, images.shape))}, {int(truth.real.sum())} boxes, {positives} positives, "
          f"{int((assigned[-1] < 0).sum())} ignored\nrelative deviation from PyTorch in float64")
    print(f"{'':<35} {'':>7} {'gradlibra':>17}  {'PyTorch float32':>17} {'kinks':>9}\n{'':<35} {'tensors':>7} "
          f"{'median':>8} {'largest':>8}  {'median':>8} {'largest':>8} {'largest':>9}  gradlibra's largest")
    for group, found in sorted(rows.items(), key=lambda row: (list(BOUNDS).index(kind_of(row[1][0][1])), row[0])):
        columns = list(zip(*found))
        print(f"{group:<35} {len(found):>7} {statistics.median(columns[0]):>8.0e} {max(columns[0]):>8.0e}  "
              f"{statistics.median(columns[2]):>8.0e} {max(columns[2]):>8.0e} {max(columns[3]):>9.0e}  {max(found)[1]}")
    for line in failures[:40]:
        print(f"DIFFERS {line}")
    print(f"{len(common)} tensors agree" if not failures else f"{len(failures)} differences")
    return 1 if failures else 0


# -------------------------------------------------------------------------------------- bench

def make_optimizer(config, detector, device):
    """SGD with the decay and rate factors of the configuration, one group for each combination."""
    options, schedule, groups = config.optimizer, config.schedule, {}
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        norm = any(part in name for part in (".bn", ".gn.", ".downsample.1."))
        decays = options.decay_norm if norm else options.decay_bias or not name.endswith(".bias")
        factor = options.backbone_lr_factor if name.startswith("backbone.") else 1
        if not norm and name.endswith(".bias"):
            factor *= options.bias_lr_factor
        groups.setdefault((options.weight_decay if decays else 0, factor), []).append(parameter)
    groups = [{"params": parameters, "weight_decay": decay, "factor": factor} for (decay, factor), parameters in groups.items()]
    if device == "cuda":
        with contextlib.suppress(TypeError, RuntimeError):  # older versions have no fused SGD
            return torch.optim.SGD(groups, lr=schedule.lr, momentum=options.momentum, fused=True)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=options.momentum, foreach=True)


def learning_rate(schedule, batch, iteration):
    """Of the first epoch."""
    regular = schedule.lr * (batch / schedule.base_batch if schedule.base_batch else 1)
    left = 1 - iteration / schedule.warmup_iterations if iteration < schedule.warmup_iterations else 0
    return regular * (1 - left * (1 - schedule.warmup_ratio))


def synthetic_batch(batch, size, classes, device):
    """8-bit pixels (N, 3, H, W) and 8 to 40 boxes of 16 to 128 pixels per image, as `benchmark step` has them; the values are others."""
    random = torch.Generator().manual_seed(1)
    N, (H, W), M = batch, size, 40
    images = torch.randint(256, (N, 3, H, W), generator=random, dtype=torch.uint8)
    size = torch.minimum(16 + 112 * torch.rand(N, M, 2, generator=random), torch.tensor([W, H]))
    corner = torch.rand(N, M, 2, generator=random) * (torch.tensor([W, H]) - size)
    labels = torch.randint(classes, (N, M), generator=random)
    counts = torch.randint(8, M + 1, (N,), generator=random)
    return images.to(device), Truth(*[t.to(device) for t in (torch.cat((corner, corner + size), -1), labels, counts)])


def milliseconds(body, count, cuda):
    """Of each of `count` runs of body."""
    if not cuda:
        clock = [time.perf_counter()]
        for _ in range(count):
            body()
            clock.append(time.perf_counter())
        return [1e3 * (b - a) for a, b in zip(clock, clock[1:])]
    torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        body()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in zip(events, events[1:])]


# torch.compile's modes by the names of --compile.
COMPILE = {"off": None, "on": "default", "graphs": "reduce-overhead"}


def compiled(function, mode):
    if not hasattr(torch, "compile"):
        raise RuntimeError(f"--compile needs PyTorch 2, this is {torch.__version__}")
    from torch._dynamo import config as dynamo  # slow, so only where it is needed
    dynamo.suppress_errors = True  # what does not compile runs eagerly, and compile_counts() tells
    return torch.compile(function, dynamic=False, mode=mode)


def compile_counters():
    """PyTorch's private counts of what its compiler did, by subject; empty where they have moved."""
    return getattr(getattr(getattr(torch, "_dynamo", None), "utils", None), "counters", {})


def compile_counts():
    """Of one compiled function, which is one graph if nothing breaks it. Fallback frames are functions that did not compile and so run
    eagerly; with neither those nor breaks all is compiled."""
    count = {subject: dict(found) for subject, found in compile_counters().items()}
    if not count:
        return {}

    def of(subject, name):
        return count.get(subject, {}).get(name, 0)

    caches = (("inductor", "fxgraph_cache"), ("aot_autograd", "autograd_cache"))
    graphs, breaks = of("stats", "unique_graphs"), sum(count.get("graph_break", {}).values())  # which has not every kind of break
    return {"compile_graphs": graphs, "compile_graph_breaks": max(breaks, graphs - 1),
            "compile_fallback_frames": of("frames", "total") - of("frames", "ok"),
            "compile_cache_hits": sum(of(subject, f"{name}_hit") for subject, name in caches),
            "compile_cache_misses": sum(of(subject, f"{name}_miss") for subject, name in caches)}


def release_memory():
    """Of the setting before, which compiled code refers to as well."""
    if hasattr(torch, "_dynamo"):
        torch._dynamo.reset()
        compile_counters().clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def time_deformable(head, backward, mode, cuda):
    """Forward and backward pass of all deformable convolutions of a step, casts of their input included. Values, types and memory layouts
    are those of a real step: `backward` runs one, without compiling. Median ms and the type the convolutions compute in."""
    calls, deformable = [], head.deformable

    def record(x, offsets, layer):
        y, i = deformable(x, offsets, layer), len(calls)
        calls.append([x.detach().requires_grad_(), offsets.detach().requires_grad_(), layer, None])
        y.register_hook(lambda gradient: calls[i].__setitem__(3, gradient))
        return y

    head.deformable = record
    try:
        backward()
    finally:
        del head.deformable
    gradients = [gradient for *_, gradient in calls]
    leaves = {leaf for x, offsets, layer, _ in calls for leaf in (x, offsets, layer.weight)}

    def forward():
        return [deformable(x, offsets, layer) for x, offsets, layer, _ in calls]

    if mode is not None:
        forward = compiled(forward, mode)

    def run():
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(forward(), gradients)

    milliseconds(run, 3, cuda)
    return statistics.median(milliseconds(run, 10, cuda)), gradients[0].dtype


def bench(options):
    if options.threads:
        torch.set_num_threads(options.threads)
    config, cuda, status = read_config(options.config), options.device == "cuda", 0
    deform = choose_deform(options.deform, options.device)
    for compiling, precision, batch in itertools.product(options.compile, options.precision, options.batch):
        result = {
            "what": "step", "implementation": "pytorch", "version": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else "cpu", "threads": torch.get_num_threads(),
            "model": f"{config.model.detector}_r{config.model.backbone.depth}", "batch": batch,
            "height": options.size[0], "width": options.size[1], "precision": precision, "graph": compiling == "graphs",
            "compile": compiling != "off", "deform": deform}
        try:
            time_step(config, options, result, COMPILE[compiling])
        except Exception as error:  # out of memory, say: the next setting may fit
            traceback.print_exc()
            result["error"] = f"{type(error).__name__}: {error}"
            status = 1
        if not options.profile or "error" in result:
            print(json.dumps(result), flush=True)
        release_memory()
    return status


def time_step(config, options, result, mode):
    """Adds to the result what it finds as it finds it, so that a failure keeps what came before."""
    cuda, batch, precision = options.device == "cuda", result["batch"], result["precision"]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    classes = len(config.data.classes) or 10
    instances = [max(30, 20000 >> c) for c in range(classes)]  # as `benchmark step` has them
    detector = Detector(config, instances, result["deform"])
    detector.class_loss.to(options.device)
    layout = torch.channels_last if options.layout == "nhwc" else torch.contiguous_format
    detector.to(options.device, memory_format=layout).train()
    optimizer = make_optimizer(config, detector, options.device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    images, truth = synthetic_batch(batch, options.size, classes, options.device)
    images = images.contiguous(memory_format=layout)
    mean, std = (torch.tensor(values, device=options.device).view(3, 1, 1) for values in (config.model.pixel_mean, config.model.pixel_std))
    priors = detector.priors(*options.size, options.device)

    def loss_of(images, priors, truth):
        pixels = (images.float() - mean) / std
        return sum(detector(pixels, priors, truth, autocast=precision == "bf16").values())

    fast_loss_of = loss_of if mode is None else compiled(loss_of, mode)
    iteration, loss = 0, None

    def step():
        nonlocal iteration, loss
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.schedule, batch, iteration) * group["factor"]
        iteration += 1
        optimizer.zero_grad(set_to_none=True)
        loss = fast_loss_of(images, priors, truth)
        loss.backward()
        if config.optimizer.clip_norm > 0:
            nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
        optimizer.step()
        detector.class_loss.commit()
        loss = loss.detach()

    start = time.perf_counter()
    milliseconds(step, options.warmup, cuda)
    if mode is not None:
        result.update({"compile_s": round(time.perf_counter() - start, 1), **compile_counts()})
    if options.profile:
        print(f"{precision}, batch {batch}, {mode and f'compiled ({mode})' or 'not compiled'}")
        return profile(step, options)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = milliseconds(step, options.steps, cuda)
    memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result.update({
        "ms_median": round(statistics.median(times), 3), "ms_min": round(min(times), 3),
        "ms_p90": round(sorted(times)[math.ceil(0.9 * len(times)) - 1], 3),
        "images_per_s": round(1e3 * batch / statistics.fmean(times), 3),
        "peak_memory_mb": round(memory, 1), "steps": options.steps, "loss": loss.item()})
    if mode is not None:  # a compiler's mistake would not show otherwise
        with torch.no_grad():
            eager = loss_of(images, priors, truth).item()
        step()  # its loss is that of the same weights
        result["compile_loss_deviation"] = abs(loss.item() / eager - 1)
    if options.time_deform:
        optimizer.zero_grad(set_to_none=True)
        ms, dtype = time_deformable(detector.bbox_head, lambda: loss_of(images, priors, truth).backward(), mode, cuda)
        result.update({"deform_ms_median": round(ms, 3), "deform_dtype": str(dtype).replace("torch.", ""),
                       "deform_tf32": cuda and precision != "fp32"})


def profile(step, options):
    """Where a step's time goes, by kind of operation (self time of PyTorch's operators)."""
    kinds = (("fused by compiling", ("triton", "cpp_fused", "compiled")),
             ("deformable", ("deform", "embedding", "grid_sampler", "scatter", "aten::index")),
             ("convolution backward", ("convolution_backward", "conv2d_backward", "convolutionbackward")),
             ("convolution", ("convolution", "conv2d", "mkldnn")), ("norm", ("norm",)),
             ("optimizer", ("_foreach", "_fused", "optimizer", "sgd")), ("pooling, upsampling", ("pool", "upsample")),
             ("element-wise, copies", ("add", "mul", "threshold", "clamp", "copy", "relu", "sub", "div", "cat", "fill")))
    cuda = options.device == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * cuda
    with torch.profiler.profile(activities=activities) as profiler:
        milliseconds(step, options.steps, cuda)
    totals = {}
    for event in profiler.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, whose time its operator has as well
        name = "self_cpu_time_total" if not cuda else "self_device_time_total" if hasattr(event, "self_device_time_total") else \
            "self_cuda_time_total"
        kind = next((kind for kind, words in kinds if any(word in event.key.lower() for word in words)), "other")
        totals.setdefault(kind, {})[event.key] = totals.get(kind, {}).get(event.key, 0) + getattr(event, name) / 1e3 / options.steps
    everything = sum(sum(events.values()) for events in totals.values())
    for kind, events in sorted(totals.items(), key=lambda item: -sum(item[1].values())):
        spent = sum(events.values())
        top = ", ".join(f"{key} {value:.1f}" for key, value in sorted(events.items(), key=lambda item: -item[1])[:4])
        print(f"{kind:<24} {spent:>9.1f} ms {100 * spent / everything:>5.1f} %   {top}", flush=True)


def several(kind, *allowed):
    """The type of an option: values separated by commas."""
    def parse(text):
        values = [kind(part) for part in text.split(",")]
        unknown = [value for value in values if allowed and value not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(allowed)}")
        return values
    parse.__name__ = "list"  # for argparse's message
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", required=True, metavar="FILE", help="resolved configuration, YAML or JSON")
    common.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    common.add_argument("--deform", choices=("auto", *DEFORM), default="auto",
                        help="deformable convolution; auto: torchvision on a GPU, else embedding_bag, the fastest of the three on a CPU")
    common.add_argument("--threads", type=int, default=0, metavar="T", help="CPU threads; 0: PyTorch's choice")
    bounds = ", ".join(f"{bound:g} for {kind}" for kind, bound in BOUNDS.items())
    checking = commands.add_parser(
        "check", parents=[common], help="compare one training step that `inspect step` wrote",
        description="One forward and backward pass with the weights and the input of a file of `inspect step`. Losses, assignments, "
        "intermediate values and all gradients must agree with PyTorch in float64: relative deviation in the L2 norm at most "
        f"{bounds}, and {OWN} times that of PyTorch in float32 (not for targets) on top; gradients may differ further by what "
        "the choice at ReLUs makes whose input is zero up to rounding, and at samples that lie on a cell. Exit status 1 if something does not.")
    checking.add_argument("--step", required=True, metavar="FILE", help="safetensors of `inspect step`")
    timing = commands.add_parser(
        "bench", parents=[common], help="time training steps",
        description="Times normalisation, forward pass, targets, losses, backward pass, clipping and update on one synthetic batch that "
        "stays on the device. Every setting of the lists, --compile outermost, gives a line of JSON as soon as it is done; where it fails, "
        "the line has an `error`, the next is tried, and the exit status is 1. peak_memory_mb: on a GPU what tensors took at most, on the "
        "CPU the largest resident set of the process so far, PyTorch itself included.")
    timing.add_argument("--batch", type=several(int), required=True, metavar="N,..")
    timing.add_argument("--size", type=int, nargs=2, required=True, metavar=("H", "W"))
    timing.add_argument("--precision", type=several(str, "fp32", "tf32", "bf16"), default=["fp32"], metavar="LIST",
                        help="of fp32 (default), tf32 and bf16, which is autocast with TF32 for the rest")
    timing.add_argument("--layout", choices=("nhwc", "nchw"), default="nhwc", help="memory layout of maps (default nhwc)")
    timing.add_argument("--compile", type=several(str, *COMPILE), nargs="?", default=["off"], const=["on"], metavar="LIST",
                        help="of off (default), on (also without LIST) and graphs: torch.compile of forward pass, targets and losses "
                        "(PyTorch 2), with CUDA graphs for `graphs`. compile_s is the time of the warm-up, most of it compiling; an earlier "
                        "run of the same setting with the same TORCHINDUCTOR_CACHE_DIR, if only of one step, makes it short")
    timing.add_argument("--time-deform", action="store_true",
                        help="also the deformable convolutions alone, forward and backward, as deform_ms_median")
    timing.add_argument("--steps", type=int, default=20, metavar="S")
    timing.add_argument("--warmup", type=int, default=5, metavar="W", help="steps before the clock starts")
    timing.add_argument("--profile", action="store_true", help="instead of the time, where it goes")
    options = parser.parse_args()
    return check(options) if options.command == "check" else bench(options)


if __name__ == "__main__":
    sys.exit(main())
