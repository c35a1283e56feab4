"""Readers of ground truth: COCO instances, LVIS v1 and SA-1B."""

from bhk.evaluation.annotations.dataset import AnnotatedImage as AnnotatedImage
from bhk.evaluation.annotations.dataset import Annotations as Annotations
from bhk.evaluation.annotations.dataset import Category as Category
from bhk.evaluation.annotations.dataset import GroundTruth as GroundTruth
from bhk.evaluation.annotations.dataset import ImageFile as ImageFile
from bhk.evaluation.annotations.reading import read_annotations as read_annotations
from bhk.evaluation.annotations.reading import resolve as resolve
