"""Batches with painted boxes, for the tests of the batch augmentations."""

import copy

import torch
from helpers import data_sample
from mmengine.structures import InstanceData


def painted_batch(n, shape, boxes_per_image=2, seed=0, img_shapes=None):
    """Images (n, 1, H, W) in which every box is painted with its label, from 1 on; 0 elsewhere.

    Boxes are 8 px and more, one beside the other, within ``img_shapes`` where these are given.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.zeros(n, 1, *shape)
    samples, label = [], 0
    for i in range(n):
        h, w = img_shapes[i] if img_shapes else shape
        boxes, labels = [], []
        for slot in range(boxes_per_image):
            label += 1
            left, right = slot * w // boxes_per_image, (slot + 1) * w // boxes_per_image
            x1 = left + int(torch.randint(0, right - left - 8, (), generator=generator))
            y1 = int(torch.randint(0, h - 8, (), generator=generator))
            x2 = int(torch.randint(x1 + 8, right, (), generator=generator))
            y2 = int(torch.randint(y1 + 8, h, (), generator=generator))
            inputs[i, :, y1:y2, x1:x2] = label
            boxes.append((x1, y1, x2, y2))
            labels.append(label)
        sample = data_sample(boxes, labels, img_shape=(h, w), batch_shape=shape)
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[1.0, 2, 11, 12]]), labels=torch.tensor([1000 + i])
        )
        sample.set_metainfo(dict(img_id=i))
        samples.append(sample)
    return inputs, samples


class Untouched:
    """Asserts that a batch is as it was."""

    def __init__(self, inputs, samples):
        self.inputs, self.samples = inputs, samples
        self.before = inputs.clone(), copy.deepcopy(samples)

    def check(self):
        assert torch.equal(self.inputs, self.before[0])
        for now, before in zip(self.samples, self.before[1]):
            assert now.metainfo == before.metainfo
            for field in ('gt_instances', 'ignored_instances'):
                assert torch.equal(now.get(field).bboxes, before.get(field).bboxes)
                assert torch.equal(now.get(field).labels, before.get(field).labels)


def middle(box):
    """Row and column of the pixel in the middle of a box."""
    x1, y1, x2, y2 = box.tolist()
    return int((y1 + y2) / 2), int((x1 + x2) / 2)
