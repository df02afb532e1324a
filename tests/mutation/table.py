"""Small wrong edits of the package, and the fast test that notices each."""

# ruff: noqa: E501 (texts of the files stay on one line)

from typing import NamedTuple


class Mutation(NamedTuple):
    """One wrong edit.

    Attributes:
        area: Heading in docs/mutations.md.
        what: The fault in words.
        file: Below the root.
        old: Text that occurs in it exactly once.
        new: What takes its place.
        node: The test that must fail.
        accepted: Why no test needs to notice it; empty for all that must be noticed.
    """

    area: str
    what: str
    file: str
    old: str
    new: str
    node: str
    accepted: str = ''


MUTATIONS: list[Mutation] = []


def _edits(area: str, file: str, node: str, *edits: tuple[str, ...]) -> None:
    """Adds edits (what, old, new[, node]) of one file."""
    for what, old, new, *other in edits:
        MUTATIONS.append(Mutation(area, what, file, old, new, *(other or [node])))


_MODELS = 'tests/test_models'
_VANILLA = f'{_MODELS}/test_backbones/test_vanillanet_reference.py'
_FORMS = f'{_VANILLA}::test_every_arch_in_every_form_equals_the_reference_on_an_odd_rectangle[5]'
_ADA = (
    f'{_VANILLA}::test_every_arch_in_every_form_equals_the_reference_on_an_odd_rectangle'
    '[13_x1_5_ada_pool]'
)
_edits(
    'VanillaNet',
    'mmdet_vanilla/models/backbones/vanillanet.py',
    _FORMS,
    (
        'average instead of maximum pooling',
        'else nn.MaxPool2d(stride)',
        'else nn.AvgPool2d(stride)',
    ),
    (
        'series activation without its ReLU',
        'F.conv2d(F.relu(x), self.weight',
        'F.conv2d(x, self.weight',
    ),
    (
        'leaky ReLU before the normalisation',
        'Deferred(lambda x: _leaky(norm(x), act_learn)',
        'Deferred(lambda x: norm(_leaky(x, act_learn))',
    ),
    ('leaky ReLU left out', 'x if act_learn == 1.0 else F.leaky_relu(x, act_learn)', 'x'),
    (
        'slope and its complement exchanged',
        'else F.leaky_relu(x, act_learn)',
        'else F.leaky_relu(x, 1 - act_learn)',
    ),
    (
        'adaptive pooling drops odd rows',
        'F.max_pool2d(x, [2 + n for n in odd], stride=2, padding=odd)',
        'F.max_pool2d(x, 2)',
        _ADA,
    ),
    ('stem of adaptive pooling at stride 4', '= (3, 1) if ada_pool', '= (4, 1) if ada_pool', _ADA),
    (
        "kernel one size smaller than the paper's",
        'kernel_size = 2 * act_num + 1',
        'kernel_size = 2 * act_num - 1',
    ),
    ("the wrong normalisation's epsilon", "dict(type='BN', eps=1e-6)", "dict(type='BN', eps=1e-3)"),
    (
        'VanillaNet-7 to -13 one block too short',
        '_arch(depth - 6)',
        '_arch(depth - 7)',
        f'{_MODELS}/test_backbones/test_vanillanet.py::test_official_names',
    ),
    (
        'the last block at a stride is not its output',
        'last_at_stride = {stride: i for i, stride in enumerate(cumulative)}',
        'last_at_stride = {s: cumulative.index(s) for s in cumulative}',
        f'{_MODELS}/test_backbones/test_vanillanet.py::test_default_out_indices',
    ),
    (
        'frozen stem trains',
        'if self.frozen_stages < 0:',
        'if self.frozen_stages <= 0:',
        f'{_MODELS}/test_backbones/test_vanillanet.py::test_the_stem_can_be_frozen_alone',
    ),
    (
        'the slope is set in the stem alone',
        'for block in self.stages:\n            block.act_learn = value',
        'for block in self.stages[:0]:\n            block.act_learn = value',
    ),
)
_edits(
    'VanillaNet',
    'mmdet_vanilla/models/layers/conv_pair.py',
    _FORMS,
    (
        'merged bias without that of the first',
        'return weight, mix @ bias1 + state',
        'return weight, state',
    ),
)
_edits(
    'VanillaNet',
    'mmdet_vanilla/engine/hooks/deep_training_hook.py',
    'tests/test_engine/test_deep_training_hook.py::test_the_slopes_of_the_authors',
    (
        'a schedule runs on pretrained weights',
        'self.with_pretrained or not self._is_pretrained(runner)',
        'True',
        'tests/test_engine/test_deep_training_hook.py::test_pretrained_weights_keep_slope_1',
    ),
    (
        'a checkpoint does not hold its slope',
        'if isinstance(module, VanillaNet) and module.act_learn < 1.0:',
        'if isinstance(module, VanillaNet) and module.act_learn < 0.0:',
        'tests/test_engine/test_deep_training_hook.py'
        '::test_a_checkpoint_in_the_middle_holds_its_slope',
    ),
)

_HEAD = f'{_MODELS}/test_dense_heads/test_rtdetr_head_reference.py'
_EVAL = f'{_HEAD}::test_every_option_equals_the_reference_in_evaluation'
_TRAIN = f'{_HEAD}::test_predictions_and_their_gradients_equal_the_reference_in_training[rtdetr]'
_LOSS = f'{_HEAD}::test_losses_and_gradients_equal_a_loop_over_layers_groups_and_objects'
_edits(
    'RT-DETR: attention and decoder',
    'mmdet_vanilla/models/layers/deformable_attention.py',
    f'{_EVAL}[points_3_6_3-rectangle]',
    (
        "offsets divided by another level's number of points",
        '[float(n) for n in points for _ in range(n)]',
        '[float(n) for n in reversed(points) for _ in range(n)]',
        f'{_EVAL}[points_1_2_3-rectangle]',
    ),
    (
        'offsets divided by the first number of points',
        '[float(n) for n in points for _ in range(n)]',
        '[float(points[0]) for n in points for _ in range(n)]',
    ),
    (
        'sampled between the corners',
        '2 * locations - 1, align_corners=False',
        '2 * locations - 1, align_corners=True',
    ),
    (
        'half a cell is missing',
        'locations[..., 0] * width + 0.5',
        'locations[..., 0] * width',
        f'{_EVAL}[discrete-rectangle]',
    ),
    (
        'both axes clamped by the height',
        'clamp(0, width - 1)',
        'clamp(0, height - 1)',
        f'{_EVAL}[discrete-rectangle]',
    ),
    (
        'offsets not scaled by the box',
        '* boxes[..., 2:] * self.offset_scale',
        '* self.offset_scale',
    ),
    (
        'offsets twice as far',
        'boxes[..., 2:] * self.offset_scale',
        'boxes[..., 2:] * 2 * self.offset_scale',
    ),
    ('weights without softmax', '.reshape(shape).softmax(-1)', '.reshape(shape).sigmoid()'),
    (
        'discrete offsets are trained',
        "if method == 'discrete':\n            # Rounding",
        "if method == 'none':\n            # Rounding",
        f'{_MODELS}/test_layers/test_deformable_attention.py::test_discrete_offsets_are_not_trained',
    ),
    (
        'positions in half precision',
        'torch.promote_types(value.dtype, torch.float32)',
        'value.dtype',
        f'{_MODELS}/test_layers/test_deformable_attention.py'
        '::test_half_precision_finds_the_same_cell',
    ),
)
_edits(
    'RT-DETR: attention and decoder',
    'mmdet_vanilla/models/layers/rtdetr_decoder.py',
    _TRAIN,
    (
        'look forward twice off',
        'twice = (step + inverse_sigmoid(undetached)).sigmoid() if i else refined',
        'twice = refined',
    ),
    (
        'reference points not detached',
        'undetached, reference = refined, refined.detach()',
        'undetached, reference = refined, refined',
    ),
    (
        'boxes look forward for ever',
        'undetached, reference = refined, refined.detach()',
        'undetached, reference = twice, refined.detach()',
    ),
    (
        'position left out of the cross-attention',
        'self.cross_attn(query + query_pos,',
        'self.cross_attn(query,',
    ),
    (
        'position in the values too',
        'self.self_attn(q, q, value=query,',
        'self.self_attn(q, q, value=q,',
    ),
    (
        'box step added after the sigmoid',
        'refined = (step + inverse_sigmoid(reference)).sigmoid()',
        'refined = step.sigmoid() + reference',
    ),
    (
        'a wider margin in the inverse sigmoid',
        'eps: float = 1e-5',
        'eps: float = 1e-2',
        f'{_LOSS}[4]',
    ),
    (
        'evaluation runs all layers',
        'elif i == self.eval_idx:\n                boxes.append(refined)\n                break',
        'elif i == len(self.layers) - 1:\n                boxes.append(refined)\n                break',
        f'{_MODELS}/test_dense_heads/test_rtdetr_head.py::test_evaluation_uses_eval_idx',
    ),
)
_edits(
    'RT-DETR: queries and losses',
    'mmdet_vanilla/models/dense_heads/rtdetr_head.py',
    _TRAIN,
    (
        'tokens of invalid anchors not masked',
        'memory = memory * valid.to(memory.dtype)',
        'memory = memory * 1.0',
        f'{_EVAL}[rtdetr-narrow]',
    ),
    ('contents of queries not detached', 'query = selected.detach()', 'query = selected'),
    (
        'initial boxes not detached',
        'return query, reference.detach(), selected',
        'return query, reference, selected',
    ),
    ('anchors twice as large', 'base_size: float = 0.05', 'base_size: float = 0.1'),
    ('anchors of one size on all levels', 'base_size * 2**level', 'base_size'),
    (
        'anchors at the corners of cells',
        '(torch.arange(w, dtype=dtype, device=device) + 0.5) / w',
        'torch.arange(w, dtype=dtype, device=device) / w',
    ),
    ('queries by the mean of class scores', 'scores.amax(-1).topk', 'scores.mean(-1).topk'),
    (
        'no mask between denoising groups',
        'attn_mask=None if dn is None else dn.attn_mask',
        'attn_mask=None',
        f'{_LOSS}[7]',
    ),
    (
        'weight of GIoU',
        "type='GIoULoss', eps=1e-9, loss_weight=2.0",
        "type='GIoULoss', eps=1e-9, loss_weight=1.0",
        f'{_LOSS}[0]',
    ),
    (
        'weight of L1',
        "type='L1Loss', loss_weight=5.0",
        "type='L1Loss', loss_weight=2.0",
        f'{_LOSS}[0]',
    ),
    (
        'denoising loss not divided by its groups',
        'avg_factor * dn.num_groups',
        'avg_factor',
        f'{_LOSS}[7]',
    ),
    (
        "encoder's predictions not trained",
        'logits = _upcast(torch.cat([outs.cls_scores, outs.enc_cls_scores[None]]))',
        'logits = _upcast(torch.cat([outs.cls_scores, outs.enc_cls_scores[None].detach()]))',
        f'{_LOSS}[0]',
    ),
    (
        'a gradient through the IoU target',
        'corners.detach(), target_corners',
        'corners, target_corners',
        f'{_LOSS}[0]',
    ),
    (
        'targets normalised by the image without its padding',
        "height, width = sample.metainfo['batch_input_shape']",
        "height, width = sample.metainfo['img_shape']",
        f'{_MODELS}/test_dense_heads/test_rtdetr_head.py'
        '::test_targets_are_normalised_by_the_padded_input',
    ),
    (
        'boxes mapped by the image without its padding',
        "input_height, input_width = meta['batch_input_shape']",
        "input_height, input_width = meta['img_shape']",
        f'{_MODELS}/test_detectors/test_rtdetr.py'
        '::test_boxes_are_where_the_object_is_in_images_of_odd_sizes_in_one_batch',
    ),
    (
        'boxes multiplied by the scale factor',
        "boxes = boxes / boxes.new_tensor(tuple(meta['scale_factor']) * 2)",
        "boxes = boxes * boxes.new_tensor(tuple(meta['scale_factor']) * 2)",
        f'{_MODELS}/test_detectors/test_rtdetr.py'
        '::test_boxes_are_where_the_object_is_in_images_of_odd_sizes_in_one_batch',
    ),
    (
        'boxes not clipped to the image',
        'boxes = torch.minimum(boxes.clamp(min=0), limit)',
        'boxes = boxes.clamp(min=0)',
        f'{_MODELS}/test_dense_heads/test_rtdetr_head.py'
        '::test_boxes_are_clipped_to_the_image_not_to_the_padding',
    ),
    (
        'labels by the number of queries',
        'labels = index % self.num_classes',
        'labels = index % scores.shape[1] % 1',
        f'{_MODELS}/test_dense_heads/test_rtdetr_head.py::test_boxes_are_right_in_the_original_image',
    ),
)
_DENOISING = f'{_MODELS}/test_layers/test_denoising.py'
_EDGES = f'{_DENOISING}::test_edges_move_either_way_by_evenly_spread_shares'
_edits(
    'RT-DETR: queries and losses',
    'mmdet_vanilla/models/layers/denoising.py',
    _EDGES,
    (
        'noise always outward',
        'sign = torch.randint_like(half_size, 2) * 2 - 1',
        'sign = half_size.new_tensor([-1.0, -1, 1, 1])',
    ),
    (
        'no noise on positives',
        'share = torch.rand_like(half_size) + is_negative[:, None]',
        'share = (torch.rand_like(half_size) + 1) * is_negative[:, None]',
    ),
    (
        'negatives like positives',
        'share = torch.rand_like(half_size) + is_negative[:, None]',
        'share = torch.rand_like(half_size)',
    ),
    (
        'noise of whole sides',
        'repeat(1, 1, 2) * 0.5 * box_noise_scale',
        'repeat(1, 1, 2) * box_noise_scale',
    ),
    (
        'twice the label noise',
        'label_noise_ratio * 0.5',
        'label_noise_ratio',
        f'{_DENOISING}::test_label_noise',
    ),
    (
        'groups see each other',
        '(group_of[:, None] != group_of) & (group_of >= 0)',
        '(group_of[:, None] < 0) & (group_of >= 0)',
        f'{_DENOISING}::test_structure',
    ),
    (
        'matching queries see the answers',
        '(group_of[:, None] != group_of) & (group_of >= 0)',
        '(group_of[:, None] != group_of) & (group_of >= 0) & (group_of[:, None] >= 0)',
        f'{_DENOISING}::test_structure',
    ),
)
_edits(
    'RT-DETR: queries and losses',
    'mmdet_vanilla/models/losses/rtdetr_varifocal_loss.py',
    f'{_MODELS}/test_losses/test_rtdetr_varifocal_loss.py',
    ('gradient through the weight', 'pred.detach().sigmoid()', 'pred.sigmoid()'),
    ('weight of the negatives', 'alpha: float = 0.75', 'alpha: float = 0.25', f'{_LOSS}[0]'),
    (
        'positives not weighted',
        'return quality, quality',
        'return quality, torch.ones_like(quality)',
    ),
)
_edits(
    'RT-DETR: queries and losses',
    'mmdet_vanilla/models/losses/matchability_aware_loss.py',
    f'{_MODELS}/test_losses/test_matchability_aware_loss.py',
    ('IoU without its exponent', 'quality.pow(self.gamma)', 'quality'),
    ('exponent of the varifocal loss', 'gamma: float = 1.5', 'gamma: float = 2.0'),
)
_edits(
    'RT-DETR: queries and losses',
    'mmdet_vanilla/models/task_modules/batched_hungarian_matcher.py',
    f'{_MODELS}/test_task_modules/test_batched_hungarian_matcher.py::test_equals_mmdet',
    (
        'cost without the negative part',
        'self.cls_weight * (positive - negative)',
        'self.cls_weight * positive',
    ),
    ('GIoU added', '- self.giou_weight * giou', '+ self.giou_weight * giou'),
    ('euclidean distance', 'torch.cdist(boxes, targets, p=1)', 'torch.cdist(boxes, targets, p=2)'),
    (
        'objects of the image before',
        'objects.append(first[image] + columns)',
        'objects.append(first[0] + columns)',
    ),
)
_NECK = f'{_MODELS}/test_necks/test_rtdetr_hybrid_encoder.py'
_edits(
    'RT-DETR: encoder',
    'mmdet_vanilla/models/necks/rtdetr_hybrid_encoder.py',
    f'{_NECK}::test_every_level_reaches_every_output',
    (
        'top-down path without the deeper level',
        'inner.insert(0, self._fuse(block, high, low))',
        'inner.insert(0, self._fuse(block, high * 0, low))',
    ),
    (
        'bottom-up path cut',
        'outs.append(self._fuse(block, down(outs[-1]), high))',
        'outs.append(self._fuse(block, down(outs[-1]) * 0, high))',
    ),
)
_edits(
    'RT-DETR: encoder',
    'mmdet_vanilla/models/layers/transformer_encoder.py',
    f'{_MODELS}/test_layers/test_transformer_encoder.py',
    (
        "the authors' order of axes",
        'rows = waves(height)[:, None].expand(-1, width, -1)\n    columns = waves(width)[None].expand(height, -1, -1)',
        'columns = waves(height)[:, None].expand(-1, width, -1)\n    rows = waves(width)[None].expand(height, -1, -1)',
    ),
)
_edits(
    'RT-DETR: encoder',
    'mmdet_vanilla/models/layers/conv_blocks.py',
    f'{_NECK}::test_fusing_keeps_the_outputs',
    (
        'fused block without its 1x1 branch',
        "return {'conv.weight': weight, 'conv.bias': bias3 + bias1}",
        "return {'conv.weight': weight3, 'conv.bias': bias3}",
    ),
)

_BATCH = f'{_MODELS}/test_data_preprocessors'
_edits(
    'Data',
    'mmdet_vanilla/models/data_preprocessors/batch_mosaic.py',
    f'{_BATCH}/test_batch_mosaic.py::test_boxes_and_labels_follow_the_pixels',
    (
        'axes of the boxes exchanged',
        'size[1] / width, size[0] / height, left, top, size',
        'size[0] / height, size[1] / width, left, top, size',
    ),
    (
        'boxes not clipped to their tile',
        '(edge * x).clamp(0, size[1]) + left',
        'edge * x + left',
        f'{_BATCH}/test_batch_mosaic.py::test_boxes_over_the_border_stay_in_their_tile',
    ),
)
_edits(
    'Data',
    'mmdet_vanilla/models/data_preprocessors/batch_mixup.py',
    f'{_BATCH}/test_batch_mixup.py::test_images_and_objects_of_both',
    ('objects of the next image', 'inputs.roll(1, dims=0)', 'inputs.roll(-1, dims=0)'),
    (
        "only one image's objects",
        'concatenate([instances_of(own), instances_of(other)])',
        'concatenate([instances_of(own)])',
    ),
)
_edits(
    'Data',
    'mmdet_vanilla/models/data_preprocessors/batch_random_resize.py',
    f'{_BATCH}/test_batch_random_resize.py::test_boxes_and_metainfo_of_padded_batches',
    ('axes of the boxes exchanged', '(1, 0, 1, 0)', '(0, 1, 0, 1)'),
    (
        'scale factor stays',
        '(width * new[1] / old[1], height * new[0] / old[0])',
        '(width, height)',
    ),
)
_CROP = 'tests/test_datasets/test_transforms/test_iou_crop.py'
_edits(
    'Data',
    'mmdet_vanilla/datasets/transforms/iou_crop.py',
    f'{_CROP}::test_labels_masks_and_pixels_follow_their_boxes',
    ('boxes not moved', 'boxes.translate_([-x1, -y1])', 'boxes.translate_([0, 0])'),
    (
        'labels of boxes that are gone',
        'results[key] = results[key][inside]',
        'results[key] = results[key][: inside.sum()]',
    ),
    (
        'any overlap will do',
        'if ious.max() >= min_iou:',
        'if ious.max() >= 0:',
        f'{_CROP}::test_accepted_crops_have_a_centre_inside_and_its_iou',
    ),
)
_COLOUR = 'tests/test_datasets/test_transforms/test_photometric_distort.py'
_edits(
    'Data',
    'mmdet_vanilla/datasets/transforms/photometric_distort.py',
    _COLOUR,
    (
        'contrast around black',
        'cv2.mean(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY))[0]',
        '0.0',
        f'{_COLOUR}::test_each_blend_against_its_definition',
    ),
    (
        'hue the other way',
        'hsv[..., 0] + 360 * shift',
        'hsv[..., 0] - 360 * shift',
        f'{_COLOUR}::test_hue_turns_the_circle_and_channels_are_reordered',
    ),
    (
        'contrast always first',
        'bool(np.random.random() < 0.5)',
        'True',
        f'{_COLOUR}::test_every_step_has_its_own_probability_and_range',
    ),
)
_BAD = 'tests/test_datasets/test_user_data/test_malformed.py'
_edits(
    'Data',
    'mmdet_vanilla/datasets/user_data/coco.py',
    f'{_BAD}::test_coco',
    (
        'file names may lead outside',
        'if escapes and not allow_outside:',
        'if escapes and allow_outside:',
    ),
    ('shared ids of annotations pass', 'if len(ids) < len(boxes):', 'if len(ids) > len(boxes):'),
    ('crowds count as objects', 'ignored = bool(crowd) or', 'ignored ='),
)
_edits(
    'Data',
    'mmdet_vanilla/engine/optimizers/param_group_constructor.py',
    'tests/test_engine/test_optimizers/test_param_group_constructor.py',
    (
        'the shortest key counts',
        'key=lambda k: (-len(k), k)',
        'key=lambda k: (len(k), k)',
        'tests/test_engine/test_optimizers/test_param_group_constructor.py::test_the_longest_key_counts_and_its_own_decay_comes_first',
    ),
    (
        'layer decay turned round',
        'rate ** (num_layers - depth - 1)',
        'rate**depth',
        'tests/test_engine/test_optimizers/test_param_group_constructor.py::test_detectors_of_the_vanillanet_authors',
    ),
    (
        'biases of attention decay',
        "item.name.endswith('bias')",
        "item.name.endswith('.bias')",
        'tests/test_engine/test_optimizers/test_param_group_constructor.py::test_a_slower_backbone_keeps_the_rules_for_norms_and_biases',
    ),
)
_edits(
    'Checkpoints',
    'mmdet_vanilla/utils/convert.py',
    'tests/test_utils/test_convert.py::test_names_and_shapes_that_do_not_fit_are_listed',
    (
        'points per level not compared',
        'if points != expected:',
        'if False:',
        'tests/test_utils/test_convert.py::test_points_per_level_with_the_same_shapes',
    ),
    (
        'v1 for v2',
        "elif 'decoder.enc_output.proj.weight' in state:\n        version = 2",
        "elif 'decoder.enc_output.proj.weight' in state:\n        version = 1",
        'tests/test_utils/test_convert.py::test_every_official_rtdetr_name[rtdetrv2_r18vd]',
    ),
    (
        'NaN passes',
        'and not torch.isfinite(tensor).all()',
        'and torch.isinf(tensor).all()',
        'tests/test_tools/test_tools.py::test_convert_weights',
    ),
)
_edits(
    'Checkpoints',
    'mmdet_vanilla/models/layers/reparam.py',
    f'{_MODELS}/test_layers/test_reparam.py::test_fold_bn',
    ('epsilon outside of the root', 'torch.sqrt(var + eps)', '(torch.sqrt(var) + eps)'),
    (
        'bias of the convolution lost',
        'shift = -mean if bias is None else bias - mean',
        'shift = -mean',
    ),
)
_SHIP = 'tests/test_deploy/test_verify.py'
_VERDICT = f'{_SHIP}::test_the_verdict_takes_every_check_into_account'
_TIGHT = f'{_SHIP}::test_tolerances_are_as_tight_as_stated'
_edits(
    'Export',
    'mmdet_vanilla/deploy/ship.py',
    _VERDICT,
    (
        'AP ignored',
        'passed = passed and difference <= verification.tolerance.ap',
        'passed = passed and difference >= 0',
    ),
    (
        'AP may fall by any amount',
        "abs(ap['exported'] - ap['pytorch'])",
        "ap['exported'] - ap['pytorch']",
    ),
    ('custom operators ignored', "(not custom_operators or precision != 'fp32')", 'True'),
    ('comparison ignored', 'verification.passed and (not custom', '(not custom'),
)
_edits(
    'Export',
    'mmdet_vanilla/deploy/verify.py',
    f'{_SHIP}::test_finds_every_difference',
    (
        'fp16 a hundred times wider',
        'fp16=Tolerance(score=0.05, box=3.0,',
        'fp16=Tolerance(score=5.0, box=300.0,',
        _TIGHT,
    ),
    (
        'AP of fp16 a hundred times wider',
        'outliers=0.02, ap=0.3)',
        'outliers=0.02, ap=30.0)',
        _TIGHT,
    ),
    ('AP of fp32 a hundred times wider', 'ap: float = 0.05', 'ap: float = 5.0', _TIGHT),
    (
        'fp32 a hundred times wider',
        'fp32=Tolerance(score=1e-4, box=0.1)',
        'fp32=Tolerance(score=1e-2, box=10.0)',
        f'{_SHIP}::test_finds_every_difference',
    ),
    ('labels ignored', 'far = relabelled |', 'far ='),
    ('lost detections ignored', 'outliers += lost', 'outliers += 0'),
    ('scores ignored', '(by_score > tolerance.score) | ', ''),
    (
        'nothing compared passes',
        'passed = detections > 0 and',
        'passed =',
        f'{_SHIP}::test_no_detection_proves_nothing',
    ),
)
_META = 'tests/test_deploy/test_metadata.py'
_edits(
    'Export',
    'mmdet_vanilla/deploy/metadata.py',
    f'{_META}::test_says_how_an_image_becomes_an_input',
    ('keep_ratio always false', "bool(resizes[0].get('keep_ratio')) and not static", 'False'),
    (
        'height and width exchanged',
        'input_size=json.dumps([height, width])',
        'input_size=json.dumps([width, height])',
    ),
    (
        'always RGB',
        "'RGB' if preprocessor.get('bgr_to_rgb') else 'BGR'",
        "'RGB'",
        f'{_META}::test_the_order_of_the_channels_is_that_of_the_preprocessor',
    ),
)
_INFER = 'tests/test_tools/test_infer_onnx.py'
_edits(
    'Export',
    'tools/infer_onnx.py',
    f'{_INFER}::test_sees_what_the_test_pipeline_shows_a_model',
    (
        'x and y scale exchanged',
        'boxes = dets[:, :4] / np.float32([*scale, *scale])',
        'boxes = dets[:, :4] / np.float32([*scale[::-1], *scale[::-1]])',
        f'{_INFER}::test_boxes_are_in_pixels_of_the_photograph',
    ),
    (
        'boxes multiplied by the scale',
        'boxes = dets[:, :4] / np',
        'boxes = dets[:, :4] * np',
        f'{_INFER}::test_boxes_are_in_pixels_of_the_photograph',
    ),
    ('letterbox factor inverted', '(int(side * factor + 0.5)', '(int(side / factor + 0.5)'),
    ('the larger of both factors', 'factor = min(\n', 'factor = max(\n'),
    ('padding of the other sign', '(-side % self.divisor', '(side % self.divisor'),
    (
        'padding at the top',
        '((0, bottom), (0, right), (0, 0))',
        '((bottom, 0), (right, 0), (0, 0))',
    ),
    ('channels not turned round', 'if self.to_rgb:', 'if not self.to_rgb:'),
    ('not normalised', '- self.mean) / self.std', '- self.mean)'),
    (
        'weakest detections',
        'keep = dets[:, 4] >= score_thr',
        'keep = dets[:, 4] <= score_thr',
        f'{_INFER}::test_boxes_are_in_pixels_of_the_photograph',
    ),
)
_ACCURACY = 'tests/test_comparison/test_accuracy.py'
_edits(
    'Compare',
    'mmdet_vanilla/comparison/accuracy.py',
    f'{_ACCURACY}::test_results_have_sides_instead_of_corners_and_ids_of_categories',
    (
        'boxes written as corners',
        'bbox=[x, y, right - x, bottom - y]',
        'bbox=[x, y, right, bottom]',
    ),
    (
        'labels reversed',
        'category_id=categories[label]',
        'category_id=categories[max(categories) - label]',
    ),
    ('labels as ids', 'category_id=categories[label]', 'category_id=label'),
    (
        'AP50 called AP',
        "STATS = ('AP', 'AP50',",
        "STATS = ('AP50', 'AP',",
        f'{_ACCURACY}::test_metrics_equal_pycocotools[0]',
    ),
    (
        'AP of classes of small objects',
        '_AREA_ALL, _MAX_DETECTIONS = 0, -1',
        '_AREA_ALL, _MAX_DETECTIONS = 1, -1',
        f'{_ACCURACY}::test_metrics_equal_pycocotools[0]',
    ),
)
_INTERVAL = f'{_ACCURACY}::test_an_interval_leaves_out_a_fortieth_at_either_end'
_edits(
    'Compare',
    'mmdet_vanilla/comparison/bootstrap.py',
    _INTERVAL,
    ('interval from the quartiles', '[2.5, 97.5]', '[25, 75]'),
    ('interval of 90 %', '[2.5, 97.5]', '[5, 95]'),
    ('always distinguishable', 'bool(low > 0 or high < 0)', 'bool(low > 0 or high > 0)'),
    ('difference turned round', 'Interval(ap - other,', 'Interval(other - ap,'),
    (
        'drawn without replacement',
        'rng.multinomial(num_images, shares, size=num_resamples)',
        'np.ones((num_resamples, num_images))',
        f'{_ACCURACY}::test_resamples_are_drawn_with_replacement',
    ),
    (
        'an image counts once',
        'drawn = weights[chunk][:, images]',
        'drawn = np.minimum(weights[chunk][:, images], 1)',
        f'{_ACCURACY}::test_resamples_equal_data_with_repeated_images',
    ),
)
_edits(
    'Compare',
    'mmdet_vanilla/comparison/latency.py',
    'tests/test_comparison/test_detectors.py::test_summary',
    (
        'p95 is the median',
        'np.percentile(total, [10, 50, 95])',
        'np.percentile(total, [10, 50, 50])',
    ),
    (
        'mean instead of median',
        'np.percentile(total, [10, 50, 95])',
        '(*np.percentile(total, [10]), np.mean(total), np.max(total))',
    ),
    (
        'postprocessing twice in the network',
        'end - prepared - (post or 0.0)',
        'end - prepared',
        'tests/test_comparison/test_detectors.py::test_a_sleep_shows_where_it_was_added',
    ),
)
_edits(
    'Compare',
    'mmdet_vanilla/comparison/dataset.py',
    'tests/test_comparison/test_dataset.py::test_classes',
    (
        'classes by order in spite of their names',
        'ids = dict(zip(split.classes, split.category_ids))',
        'ids = dict(zip(split.classes, reversed(split.category_ids)))',
    ),
)
_edits(
    'Compare',
    'mmdet_vanilla/evaluation/match_detections.py',
    'tests/test_evaluation/test_match_detections.py',
    (
        'boxes of equal IoU in any order',
        'priority = iou + 1e-3 * (labels_a[:, None] == labels_b)',
        'priority = iou',
    ),
    (
        'a partner is used twice',
        'if row not in used_a and column not in used_b:',
        'if row not in used_a:',
    ),
    ('differences of labels not counted', 'int((a.labels != b.labels).sum())', '0'),
)
