# SPDX-License-Identifier: MIT
"""The classification losses in PyTorch for pytorch_reppoints.py, written from docs/losses.md: values by plain expressions, gradients by
autograd, states in float64. One process, so that what crosses ranks is its own."""
import bisect
import math

import torch
import torch.nn.functional as F


def divisor(loss, assigned, classification):
    positives, negatives = (assigned > 0).sum(1), (assigned == 0).sum(1)
    kind = loss.normalizer
    if kind == "num_valid" and classification:
        count = (positives + negatives).sum()
    elif kind == "num_pos_image_min1":
        count = positives.clamp(min=1).sum()
    elif kind == "pos_plus_neg":
        count = (positives.clamp(min=1) + negatives.clamp(min=1)).sum()
    else:
        count = positives.sum()
    return count.clamp(min=1)


class ClassLoss:
    """config: section model.loss. A call gives the loss of all rows, divided and weighted, and puts into `next` what the loss has
    accumulated after the step; `state` is what it had before, by the names of checkpoints."""
    has_objectness = False  # its channels tell objects from background by themselves

    def __init__(self, config, instances):
        self.config, self.instances, self.classes = config, instances, len(instances)
        self.prior = -math.log((1 - config.prior_probability) / config.prior_probability)
        self.state, self.next = self.first_state(), {}

    def first_state(self):
        return {}

    def bias(self):
        """Where the classifier's bias starts, one value per channel of a cell."""
        return [self.prior] * self.classes

    def to(self, device):
        self.state = {name: value.to(device) for name, value in self.state.items()}
        return self

    def commit(self):
        for name, value in self.next.items():
            self.state[name].copy_(value)

    def __call__(self, logits, assigned, truth, count):
        """logits (N, P, channels); assigned (N, P): 0 background, -1 ignored, k > 0 = ground truth k - 1; count: the normalizer."""
        of_truth = truth.labels.gather(1, (assigned - 1).clamp(min=0))
        labels = torch.where(assigned > 0, of_truth, self.classes).flatten()
        return self.config.weight * self.rows(logits.flatten(0, 1), labels, (assigned >= 0).flatten(), count)


def one_hot(labels, channels):
    return labels.unsqueeze(-1) == torch.arange(channels, device=labels.device)


class SigmoidLoss(ClassLoss):
    """Cross-entropy of a sigmoid per class, times psi of an entry: a function of g = |p - y| or of what came before."""

    def rows(self, logits, labels, valid, count):
        positive = one_hot(labels, logits.shape[-1])
        t = torch.where(positive, -logits, logits)
        entries = F.softplus(t) * self.psi(t, positive, labels)
        with torch.no_grad():
            self.accumulate(t.sigmoid(), positive, valid)
        return (entries * valid.unsqueeze(-1)).sum() / count

    def psi(self, t, positive, labels):
        return 1

    def accumulate(self, g, positive, valid):
        pass


class Focal(SigmoidLoss):
    def psi(self, t, positive, labels):
        factor = t.sigmoid().pow(self.config.focal_gamma)
        if self.config.focal_alpha >= 0:
            factor = factor * torch.where(positive, self.config.focal_alpha, 1 - self.config.focal_alpha)
        return factor


class GradLibra(SigmoidLoss):
    def psi(self, t, positive, labels):
        config = self.config
        g = (t if config.weight_grad == "full" else t.detach()).sigmoid()
        sides = [torch.ones_like(g) if alpha in ("off", False) else g - alpha * g.sin() for alpha in (config.alpha_pos, config.alpha_neg)]
        return torch.where(positive, *sides)


class ClassBalanced(SigmoidLoss):
    def first_state(self):
        beta = self.config.class_balanced.beta
        rare = [(1 - beta) / -math.expm1(n * math.log1p(-(1 - beta))) if n > 0 else None for n in self.instances] if beta > 0 else \
            [1.0 if n > 0 else None for n in self.instances]
        known = [u for u in rare if u is not None]
        weights = [1.0 if u is None else u * len(known) / sum(known) for u in rare]
        return {"class_balanced.weights": torch.tensor(weights, dtype=torch.float64)}

    def psi(self, t, positive, labels):
        options = self.config.class_balanced
        weights = self.next["class_balanced.weights"] = self.state["class_balanced.weights"]
        factor = t.sigmoid().pow(options.gamma) if options.base == "focal" else 1
        if options.apply == "element":
            return weights.to(t.dtype) * factor
        return F.pad(weights, (0, 1), value=options.background_weight)[labels].to(t.dtype).unsqueeze(-1) * factor


class EqlV2(SigmoidLoss):
    def __init__(self, config, instances):
        super().__init__(config, instances)
        self.has_objectness = config.eqlv2.objectness_channel

    def first_state(self):
        return {"eqlv2.gradients": torch.zeros(2, self.classes, dtype=torch.float64),
                "eqlv2.ratios": torch.full((self.classes,), 100.0, dtype=torch.float64)}

    def bias(self):
        return [self.prior] * self.classes + [-self.prior] * self.has_objectness

    def weights(self):
        """(2, C): of positive entries, of negative ones."""
        options = self.config.eqlv2
        x = options.gamma * (self.state["eqlv2.ratios"] - options.mu)
        return torch.stack((1 + options.alpha * (-x).sigmoid(), x.sigmoid()))

    def psi(self, t, positive, labels):
        raised, lowered = F.pad(self.weights(), (0, t.shape[-1] - self.classes), value=1.0).to(t.dtype)
        return torch.where(positive, raised, lowered)

    def accumulate(self, g, positive, valid):
        g = g.double()[:, :self.classes] * valid.unsqueeze(-1)
        positive = positive[:, :self.classes]
        gained = torch.stack([(g * side).sum(0) for side in (positive, ~positive)]) * self.weights()
        total = self.state["eqlv2.gradients"] + gained
        self.next = {"eqlv2.gradients": total, "eqlv2.ratios": total[0] / (total[1] + 1e-10)}


class Seesaw(ClassLoss):
    has_objectness = True

    def first_state(self):
        return {"seesaw.counts": torch.zeros(self.classes + 1, dtype=torch.float64)}

    def bias(self):
        return [0.0] * self.classes + [self.prior]

    def rows(self, logits, labels, valid, count):
        options, C = self.config.seesaw, self.classes
        counts = self.state["seesaw.counts"] + (one_hot(labels, C + 1) & valid.unsqueeze(-1)).sum(0)
        self.next = {"seesaw.counts": counts}
        z, objectness, objects = logits[:, :C], logits[:, C], labels < C
        own = labels.clamp(max=C - 1).unsqueeze(-1)
        with torch.no_grad():
            log_count, log_p = counts[:C].clamp(min=1).log().to(z.dtype), z.log_softmax(-1)
            rarer = (log_count - log_count[own]).clamp(max=0)
            mistaken = (log_p - log_p.gather(1, own).clamp(min=math.log(options.eps))).clamp(min=0)
            log_s = (options.p * rarer + options.q * mistaken).scatter(1, own, 0.0)
        classes = F.cross_entropy(z + log_s, own.squeeze(-1), reduction="none")
        objects_loss = F.softplus(torch.where(objects, -objectness, objectness))
        return ((classes * objects + objects_loss) * valid).sum() / count


# splitmix64's finaliser over one number after the other, in 64 bits that wrap around.
STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def signed(x):
    x &= 2 ** 64 - 1
    return x - 2 ** 64 if x >= 2 ** 63 else x


def mixed(x):
    for shift, factor in ((30, FIRST), (27, SECOND), (31, 1)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * signed(factor)
    return x


def hashes(rows, *prefix):
    """Of row numbers 0 .. rows - 1; int64 whose order is that of the hashes."""
    value = torch.zeros((), dtype=torch.int64)
    for number in (*prefix, torch.arange(rows)):
        value = mixed(value + signed(STEP) + number)
    return value ^ signed(2 ** 63)


class Bags(ClassLoss):
    has_objectness = True

    def first_state(self):
        edges = sorted(self.config.bags.edges)
        intervals = [bisect.bisect_right(edges, n) for n in self.instances]
        kept = sorted(set(intervals))
        groups = [kept.index(interval) + 1 for interval in intervals]
        self.members = [[c for c in range(self.classes) if groups[c] == g + 1] for g in range(len(kept))]
        return {"bags.groups": torch.tensor(groups, dtype=torch.float64),
                "bags.sampling": torch.tensor([self.config.bags.seed, 0], dtype=torch.float64)}

    def bias(self):
        return [0.0, self.prior] + [0.0] * (self.classes + len(self.members))

    def rows(self, logits, labels, valid, count):
        options = self.config.bags
        seed, step = (int(number) for number in self.state["bags.sampling"])
        self.next = {"bags.groups": self.state["bags.groups"], "bags.sampling": self.state["bags.sampling"] + torch.tensor(
            [0, 1], device=logits.device)}
        objects = (labels < self.classes).long()
        of_foreground = (F.cross_entropy(logits[:, :2], objects, reduction="none") * valid).sum()
        total = of_foreground / (count if options.foreground_normalizer == "shared" else valid.sum().clamp(min=1))
        first = 2
        for g, members in enumerate(self.members):
            place = torch.zeros(self.classes + 1, dtype=torch.int64, device=logits.device)  # 0: others
            place[members] = torch.arange(1, len(members) + 1, device=logits.device)
            target, own = place[labels], valid & (place[labels] > 0)
            others = valid & ~own
            wanted = torch.minimum((options.beta * own.sum()).floor(), others.sum())
            draw = hashes(len(labels), seed, step, 0, g + 1).to(logits.device).masked_fill(~others, 2 ** 63 - 1)
            taken = own | ((draw.argsort(stable=True).argsort() < wanted) & others)
            entries = F.cross_entropy(logits[:, first:first + len(members) + 1], target, reduction="none")
            total = total + (entries * taken).sum() / taken.sum().clamp(min=1)
            first += len(members) + 1
        return total


LOSSES = {"cross_entropy": SigmoidLoss, "focal": Focal, "grad_libra": GradLibra, "class_balanced": ClassBalanced, "eqlv2": EqlV2,
          "seesaw": Seesaw, "bags": Bags}


def make_class_loss(config, instances):
    """instances: boxes of each class in the training split."""
    return LOSSES[config.type](config, instances)
