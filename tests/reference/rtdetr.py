"""RT-DETR's head: query selection, decoder, denoising, matching, losses.

https://arxiv.org/abs/2304.08069, section 4.3; deformable attention of
https://arxiv.org/abs/2010.04159, equation 3, with the points per level and the discrete sampling of
https://arxiv.org/abs/2407.17140, section 3.1; look forward twice of
https://arxiv.org/abs/2203.03605, section 3.5.
"""

import itertools
import math

import torch

from .basics import batch_norm, layer_norm, linear, relu, sigmoid, silu, softmax

ACTIVATIONS = dict(ReLU=relu, SiLU=silu)


def logit(x):
    """Inverse of the sigmoid, for shares cut to 0..1 and kept 1e-5 away from both ends."""
    x = x.clamp(0, 1)
    low, high = x, 1 - x
    low, high = (torch.where(v > 1e-5, v, torch.full_like(v, 1e-5)) for v in (low, high))
    return torch.log(low) - torch.log(high)


def mlp(x, weights, name, num_layers, act):
    for i in range(num_layers - 1):
        x = act(linear(x, weights, f'{name}.layers.{i}'))
    return linear(x, weights, f'{name}.layers.{num_layers - 1}')


# Attention.


def bilinear(values, x, y):
    """Sum over all cells of their values times how near they are, nothing from a cell's side on.

    Args:
        values: (H, W, D), of cells whose centres are at ``(j + 0.5) / W``, ``(i + 0.5) / H``.
        x, y: (...), 0..1 across the map.
    """
    height, width, _ = values.shape
    columns = relu(1 - (x[..., None] * width - 0.5 - torch.arange(width)).abs())
    rows = relu(1 - (y[..., None] * height - 0.5 - torch.arange(height)).abs())
    return torch.einsum('...h,...w,hwd->...d', rows, columns, values)


def nearest(values, x, y):
    """The value at the position, in cells rounded half up; outside that of the border."""
    height, width, _ = values.shape
    columns = torch.floor(x * width + 0.5).clamp(0, width - 1).long()
    rows = torch.floor(y * height + 0.5).clamp(0, height - 1).long()
    return values[rows, columns]


SAMPLERS = dict(bilinear=bilinear, discrete=nearest)


def deformable_attention(
    query, boxes, memory, sizes, weights, name, num_heads, num_points, offset_scale, method
):
    """Every head sums the values at some points around the query's box.

    Args:
        query: (N, Q, C).
        boxes: (N, Q, 4), cx, cy, w, h.
        memory: (N, sum(H_l * W_l), C).
        sizes: (H_l, W_l) of every level.
        num_points: Of every level.
    """
    value = linear(memory, weights, f'{name}.value_proj')
    offsets = linear(query, weights, f'{name}.sampling_offsets')
    shares = linear(query, weights, f'{name}.attention_weights')
    dim = query.shape[-1] // num_heads
    images = []
    for n in range(len(query)):
        heads = []
        for head in range(num_heads):
            first = head * sum(num_points)
            share = softmax(shares[n, :, first : first + sum(num_points)])
            total, point, start = 0, 0, 0
            for (height, width), count in zip(sizes, num_points):
                level = value[n, start : start + height * width, head * dim : (head + 1) * dim]
                level = level.reshape(height, width, dim)
                start += height * width
                for _ in range(count):
                    at = 2 * (first + point)
                    scale = boxes[n, :, 2:] * offset_scale / count
                    place = boxes[n, :, :2] + offsets[n, :, at : at + 2] * scale
                    sample = SAMPLERS[method](level, place[:, 0], place[:, 1])
                    total = total + share[:, point, None] * sample
                    point += 1
            heads.append(total)
        images.append(torch.cat(heads, dim=-1))
    return linear(torch.stack(images), weights, f'{name}.output_proj')


def self_attention(query, pos, weights, name, num_heads, mask):
    """Scaled dot products of queries and keys with the position; values without it."""
    dim = query.shape[-1] // num_heads
    weight = weights[f'{name}.in_proj_weight'].chunk(3)
    bias = weights[f'{name}.in_proj_bias'].chunk(3)
    placed = query + pos
    q, k, v = (
        torch.einsum('nqi,oi->nqo', x, w) + b
        for x, w, b in zip((placed, placed, query), weight, bias)
    )
    heads = []
    for head in range(num_heads):
        part = slice(head * dim, (head + 1) * dim)
        scores = torch.einsum('nqd,nkd->nqk', q[..., part], k[..., part]) / math.sqrt(dim)
        if mask is not None:
            scores = torch.where(mask, torch.full_like(scores, -math.inf), scores)
        heads.append(torch.einsum('nqk,nkd->nqd', softmax(scores), v[..., part]))
    return linear(torch.cat(heads, dim=-1), weights, f'{name}.out_proj')


def decoder_layer(query, pos, boxes, memory, sizes, weights, name, cfg, mask):
    """Self-attention, deformable attention, feed-forward; each added, then normalised."""
    attended = self_attention(query, pos, weights, f'{name}.self_attn', cfg['num_heads'], mask)
    query = layer_norm(query + attended, weights, f'{name}.norm1')
    attended = deformable_attention(
        query + pos,
        boxes,
        memory,
        sizes,
        weights,
        f'{name}.cross_attn',
        cfg['num_heads'],
        cfg['num_points'],
        cfg['offset_scale'],
        cfg['sampling_method'],
    )
    query = layer_norm(query + attended, weights, f'{name}.norm2')
    hidden = ACTIVATIONS[cfg['act']](linear(query, weights, f'{name}.linear1'))
    return layer_norm(query + linear(hidden, weights, f'{name}.linear2'), weights, f'{name}.norm3')


# Query selection.


def anchors(sizes, dtype):
    """For every cell its centre, and a side of 0.05 doubled at each level; logits, validity."""
    boxes = []
    for level, (height, width) in enumerate(sizes):
        side = 0.05 * 2**level
        for i in range(height):
            for j in range(width):
                boxes.append([(j + 0.5) / width, (i + 0.5) / height, side, side])
    boxes = torch.tensor(boxes, dtype=dtype)
    valid = ((boxes > 0.01) & (boxes < 0.99)).all(1)
    logits = torch.log(boxes / (1 - boxes))
    logits[~valid] = math.inf
    return logits, valid


def select_queries(memory, sizes, weights, cfg):
    """The tokens with the best class score become queries, their anchors plus a step the boxes."""
    logits, valid = anchors(sizes, memory.dtype)
    memory = memory * valid[:, None]  # what lies at the border counts as nothing
    tokens = layer_norm(linear(memory, weights, 'enc_output.proj'), weights, 'enc_output.norm')
    scores = linear(tokens, weights, 'enc_score_head')
    steps = mlp(tokens, weights, 'enc_bbox_head', 3, ACTIVATIONS[cfg['act']])
    best = scores.amax(-1).argsort(dim=1, descending=True)[:, : cfg['num_queries']]
    picked = [
        torch.stack([values[n, best[n]] for n in range(len(best))])
        for values in (tokens, scores, steps + logits)
    ]
    query, scores, reference = picked
    if cfg['learnt_init_query']:
        contents = weights['tgt_embed.weight'][: best.shape[1]].expand(len(best), -1, -1)
    else:
        contents = query.detach()
    return contents, reference.detach(), scores, sigmoid(reference)


def head(feats, weights, cfg, training=False, denoising=None):
    """Predictions of all decoder layers, and of the selected encoder tokens.

    Args:
        feats: Feature maps (N, C_l, H_l, W_l).
        weights: By the names of the package.
        cfg: ``num_layers``, ``num_heads``, ``num_points`` (a list), ``num_queries``,
            ``offset_scale``, ``sampling_method``, ``act``, ``learnt_init_query``.
        training: Whether boxes look forward twice and normalisation uses the batch's statistics.
        denoising: ``labels`` (N, D), ``boxes`` (N, D, 4) and ``attn_mask`` of denoising queries,
            which come first.

    Returns:
        Logits and boxes of every layer (lists of (N, D + Q, C) and (N, D + Q, 4)), and those of
        the encoder.
    """
    act = ACTIVATIONS[cfg['act']]
    sizes = [tuple(x.shape[2:]) for x in feats]
    memory = []
    for i, x in enumerate(feats):
        x = torch.einsum('ncyx,oc->noyx', x, weights[f'input_proj.{i}.conv.weight'][:, :, 0, 0])
        x = batch_norm(x, weights, f'input_proj.{i}.norm', 1e-5, training)
        memory += [
            x[:, :, row, column] for row in range(x.shape[2]) for column in range(x.shape[3])
        ]
    memory = torch.stack(memory, dim=1)
    query, reference, enc_scores, enc_boxes = select_queries(memory, sizes, weights, cfg)
    mask = None
    if denoising is not None:
        embedded = weights['denoising_class_embed.weight'][denoising['labels']]
        query = torch.cat([embedded, query], dim=1)
        reference = torch.cat([logit(denoising['boxes']), reference], dim=1)
        mask = denoising['attn_mask']

    boxes = sigmoid(reference)  # b: where a layer looks; it has no gradient
    refined = None  # b': the same boxes with the gradient of the layer before
    all_scores, all_boxes = [], []
    for i in range(cfg['num_layers']):
        pos = mlp(boxes, weights, 'query_pos_head', 2, act)
        query = decoder_layer(
            query, pos, boxes, memory, sizes, weights, f'decoder.layers.{i}', cfg, mask
        )
        step = mlp(query, weights, f'dec_bbox_head.{i}', 3, act)
        all_scores.append(linear(query, weights, f'dec_score_head.{i}'))
        before = boxes if refined is None else refined
        all_boxes.append(sigmoid(logit(before) + step))
        refined = sigmoid(logit(boxes) + step)
        boxes = refined.detach()
    return all_scores, all_boxes, enc_scores, enc_boxes


# Losses.


def corners(box):
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def overlap(a, b):
    """IoU and generalised IoU (https://arxiv.org/abs/1902.09630) of two boxes cx, cy, w, h."""
    (ax, ay, ar, ab), (bx, by, br, bb) = corners(a), corners(b)
    width = torch.clamp(torch.minimum(ar, br) - torch.maximum(ax, bx), min=0)
    height = torch.clamp(torch.minimum(ab, bb) - torch.maximum(ay, by), min=0)
    shared = width * height
    union = a[2] * a[3] + b[2] * b[3] - shared
    hull = (torch.maximum(ar, br) - torch.minimum(ax, bx)) * (
        torch.maximum(ab, bb) - torch.minimum(ay, by)
    )
    iou = shared / union
    return iou, iou - (hull - union) / hull


def match(scores, boxes, labels, targets):
    """The assignment of queries (Q) to objects (G) of the least cost, among all there are.

    Costs: 2 times the focal loss of a positive less that of a negative (alpha 0.25, gamma 2), 5
    times the L1 distance, -2 times the generalised IoU.
    """
    costs = []
    for score, box in zip(scores, boxes):
        row = []
        for label, target in zip(labels, targets):
            p = sigmoid(score[label])
            positive = -0.25 * (1 - p) ** 2 * torch.log(p + 1e-8)
            negative = -0.75 * p**2 * torch.log(1 - p + 1e-8)
            giou = overlap(box, target)[1]
            row.append(float(2 * (positive - negative) + 5 * (box - target).abs().sum() - 2 * giou))
        costs.append(row)
    ways = itertools.permutations(range(len(scores)), len(labels))
    return min(ways, key=lambda way: sum(costs[q][g] for g, q in enumerate(way)))


def losses(scores, boxes, pairs, labels, targets, num_classes, divisor):
    """Losses of one layer on one batch.

    Args:
        scores: (N, Q, C) logits.
        boxes: (N, Q, 4).
        pairs: Of every image, (query, object) of every positive.
        labels: Of every image (G,).
        targets: Of every image (G, 4).
        divisor: Number of objects that the sums are divided by.

    Returns:
        Varifocal loss (weight 1, alpha 0.75, gamma 2), L1 (weight 5), GIoU (weight 2).
    """
    loss_cls = loss_bbox = loss_iou = torch.zeros((), dtype=scores.dtype)
    for n, matched in enumerate(pairs):
        objects = dict(matched)
        for query in range(scores.shape[1]):
            quality = {}
            if query in objects:
                g = objects[query]
                iou, giou = overlap(boxes[n, query], targets[n][g])
                quality[int(labels[n][g])] = float(iou)
                loss_bbox = loss_bbox + 5 * (boxes[n, query] - targets[n][g]).abs().sum()
                loss_iou = loss_iou + 2 * (1 - giou)
            for label in range(num_classes):
                p = sigmoid(scores[n, query, label])
                if label in quality:
                    q = quality[label]
                    entropy = -q * torch.log(p) - (1 - q) * torch.log(1 - p)
                    loss_cls = loss_cls + q * entropy
                else:
                    loss_cls = loss_cls - 0.75 * p.detach() ** 2 * torch.log(1 - p)
    return loss_cls / divisor, loss_bbox / divisor, loss_iou / divisor
