"""Train the demo SAM from scratch: the classes of `segment_anything` at a small size, on procedural scenes.

    python -m tools.train_demo_sam --out demo_training --steps 5200

A run is seeded. After a stop it resumes from `checkpoint.pt` in the folder, with the same scenes as without the stop. `log.csv`
has the losses and the mIoU on held-out scenes, and `curve.png` shows them. The losses are SAM's (Kirillov et al. 2023, appendix
A): binary cross entropy and dice for masks, of which only the best of three multi-mask outputs learns; squared error for the
IoU head; some prompts return with the mask of a first pass. In addition, a linear layer predicts from each patch of the
embedding the box of the object there and the edges within the patch. It speeds up learning, and is dropped at the end.

The bundled weights come from such a run, which was resumed with two changes: from step 3,000 on, box corners have embeddings of
their own (a fault before), which started at zero; and `--steps` was changed twice, as the rates in the log show.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from bhk.pictures.masks import bounding_box
from bhk.pictures.scenes import HELD_OUT, make_scene
from tools.demo_lessons import GRID, LOW, PATCH, SIZE, Lesson, lessons

WIDTH = 128  # channels of the decoder
EVALUATED = 100  # held-out scenes, for the log
FINALLY_EVALUATED = 500
EVERY = 250  # steps between rows of the log
PEAK_RATE, WARM_UP, FALLING = 8e-4, 300, 0.45  # steps of warm-up; share of the steps in which the rate falls
SECOND_PASS_FROM = 1500
SCENES_OF_A_SEED = 1 << 24


@dataclass(frozen=True)
class Kind:
    """A model: the demo by default; others check what was tuned on the demo.

    Attributes:
        width, depth: of the image encoder.
        seed: of the first weights, and of the scenes that the model sees.
    """

    width: int = 192
    depth: int = 6
    seed: int = 0


def build_sam(kind: Kind) -> nn.Module:
    """Return an untrained model; the demo has 3.6 M parameters."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    encoder = ImageEncoderViT(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=kind.width,
        depth=kind.depth,
        num_heads=kind.width // 64,
        mlp_ratio=4,
        out_chans=WIDTH,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        rel_pos_zero_init=True,
        window_size=8,
        global_attn_indexes=tuple(range(1, kind.depth, 2)),
    )
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)
    prompts = PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=(GRID, GRID), input_image_size=(SIZE, SIZE), mask_in_chans=16
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=512, num_heads=8),
        transformer_dim=WIDTH,
        iou_head_depth=3,
        iou_head_hidden_dim=WIDTH,
    )
    return Sam(image_encoder=encoder, prompt_encoder=prompts, mask_decoder=decoder)  # type: ignore[no-any-return]


class Student(nn.Module):
    """The model, with the layer that is dropped at the end."""

    def __init__(self, sam: nn.Module) -> None:
        super().__init__()
        self.sam = sam
        self.aside = nn.Conv2d(WIDTH, 4 + (LOW // GRID) ** 2, 1)

    def embed(self, pictures: Tensor, kept: Tensor) -> Tensor:
        """Return embeddings (batch, WIDTH, GRID, GRID) of the visible parts `kept` of pictures."""
        rows = torch.arange(SIZE, device=pictures.device)
        padding = (rows[:, None] >= kept[:, :1, None]) | (rows >= kept[:, 1:, None])
        normal = (pictures.float() - self.sam.pixel_mean) / self.sam.pixel_std
        return self.sam.image_encoder(normal.masked_fill(padding[:, None], 0.0))  # type: ignore[no-any-return]

    def ask(
        self, embedding: Tensor, points: Tensor, labels: Tensor, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (prompts, 4, LOW, LOW) and expected IoU (prompts, 4) for one picture."""
        encoder = self.sam.prompt_encoder
        on, dense = encoder(points=(points, labels), boxes=None, masks=masks)
        around, _ = encoder(points=None, boxes=points, masks=None)
        is_box = (labels[:, :1] == 2)[:, None]
        return self.sam.mask_decoder.predict_masks(  # type: ignore[no-any-return]
            image_embeddings=embedding[None],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=torch.where(is_box, around, on[:, :2]),  # two tokens each: points need no padding
            dense_prompt_embeddings=dense,
        )


def mask_losses(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and the IoU, both (prompts, 4), of logits with the masks (prompts, LOW, LOW)."""
    wanted = wanted[:, None].expand_as(logits)
    chance = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((2, 3))
    dice = 1 - (2 * (chance * wanted).sum((2, 3)) + 1) / ((chance + wanted).sum((2, 3)) + 1)
    with torch.no_grad():
        seen, true = logits > 0, wanted > 0.5
        iou = (seen & true).sum((2, 3)) / (seen | true).sum((2, 3)).clamp(min=1)
    return 4 * entropy + dice, iou


def lesson_losses(student: Student, lesson: Lesson, *, second_pass: bool) -> dict[str, Tensor]:
    """Return the parts of the loss of a lesson."""
    embeddings = student.embed(lesson.pictures, lesson.kept)
    single, several, quality = [], [], []
    for index, embedding in enumerate(embeddings):
        points, labels, wanted = lesson.points[index], lesson.labels[index], lesson.masks[index]
        masks = None
        if second_pass and index % 4 == 0:
            with torch.no_grad():
                masks = student.ask(embedding, points, labels)[0][:, :1]
        logits, expected = student.ask(embedding, points, labels, masks)
        losses, iou = mask_losses(logits, wanted)
        single.append(losses[:, 0])
        several.append(losses[:, 1:].min(1).values + 0.05 * losses[:, 1:].mean(1))
        quality.append(functional.mse_loss(expected, iou))
    aside = student.aside(embeddings)
    known = ~lesson.boxes.isnan()
    edges = functional.pixel_shuffle(aside[:, 4:], LOW // GRID)[:, 0]
    return {
        "single": torch.cat(single).mean(),
        "multi": torch.cat(several).mean(),
        "quality": torch.stack(quality).mean(),
        "boxes": functional.smooth_l1_loss(aside[:, :4][known], lesson.boxes[known], beta=0.05),
        "edges": functional.binary_cross_entropy_with_logits(edges, lesson.edges, pos_weight=edges.new_tensor(3.0)),
    }


WEIGHTS = {"single": 1.0, "multi": 0.5, "quality": 0.5, "boxes": 1.0, "edges": 0.5}


@torch.inference_mode()
def evaluate(student: Student, scenes: int) -> tuple[float, float]:
    """Return the mIoU over all objects of held-out scenes for boxes and for single points, single-mask output."""
    device = student.aside.weight.device
    found: tuple[list[float], list[float]] = ([], [])
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        scene = make_scene(seed, SIZE)
        boxes = np.array([bounding_box(mask) for mask in scene.masks]).reshape(-1, 2, 2)
        points = np.array([[_innermost(mask), (0, 0)] for mask in scene.masks])
        pictures = torch.from_numpy(scene.picture).permute(2, 0, 1)[None].to(device)
        embedding = student.embed(pictures, torch.tensor([[SIZE, SIZE]], device=device))[0]
        for ious, asked, kind in zip(found, (boxes, points), ([2, 3], [1, -1]), strict=True):
            places = torch.from_numpy(asked).float().to(device)
            logits = student.ask(embedding, places, torch.tensor([kind] * len(asked), device=device))[0]
            masks = (functional.interpolate(logits[:, :1], (SIZE, SIZE), mode="bilinear")[:, 0] > 0).cpu().numpy()
            ious += list((masks & scene.masks).sum((1, 2)) / (masks | scene.masks).sum((1, 2)))
    return float(np.mean(found[0])), float(np.mean(found[1]))


def _innermost(mask: np.ndarray) -> np.ndarray:
    """Return x and y of a pixel farthest from the mask's edge."""
    inner = np.pad(mask, 1)
    while inner.any():
        last, inner = inner, inner.copy()
        for axis, step in itertools.product((0, 1), (-1, 1)):
            inner &= np.roll(last, step, axis)
    places = np.argwhere(last[1:-1, 1:-1])
    return places[len(places) // 2][::-1] + 0.5


def learning_rate(step: int, steps: int) -> float:
    """Return the rate of a step: warm-up, constant, then falling to 0."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * FALLING))


def parameter_groups(student: nn.Module) -> list[dict[str, object]]:
    """Return the parameters in two groups: matrices with weight decay, vectors without."""
    matrices = [parameter for parameter in student.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in student.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]


def train(out: Path, steps: int, batch: int, device: str, kind: Kind = Kind()) -> Student:
    """Train up to `steps` steps, from the folder's checkpoint if there is one."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(kind.seed)
    student = Student(build_sam(kind)).to(device)
    optimiser = torch.optim.AdamW(parameter_groups(student), betas=(0.9, 0.98))
    state, first, before = out / "checkpoint.pt", 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        student.load_state_dict(saved["student"])
        optimiser.load_state_dict(saved["optimiser"])
        first, before = saved["step"], saved["seconds"]
    started, sums = time.monotonic() - before, dict.fromkeys(WEIGHTS, 0.0)
    for step, lesson in zip(range(first, steps), lessons(first, batch, kind.seed * SCENES_OF_A_SEED), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        parts = lesson_losses(student, lesson.to(device), second_pass=step >= SECOND_PASS_FROM)
        optimiser.zero_grad()
        sum(WEIGHTS[name] * loss for name, loss in parts.items()).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        sums = {name: total + float(parts[name].detach()) for name, total in sums.items()}
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            seconds = time.monotonic() - started
            row = {
                "step": step + 1,
                "scenes": (step + 1) * batch,
                "seconds": round(seconds),
                "rate": learning_rate(step, steps),
            }
            row |= {name: round(total / ((step % EVERY) + 1), 4) for name, total in sums.items()}
            row |= dict(zip(("box_miou", "point_miou"), evaluate(student, EVALUATED), strict=True))
            write_row(out / "log.csv", row)
            saved = {"student": student.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(saved | {"seconds": seconds}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
            sums = dict.fromkeys(WEIGHTS, 0.0)
    return student


def write_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to the log, and print it."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerow(row)
    print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def draw_curve(log: Path, picture: Path) -> None:
    """Draw the losses and mIoU of a log over the number of scenes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scenes = [int(row["scenes"]) for row in rows]
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, names in zip(panels, (("single", "multi", "edges"), ("box_miou", "point_miou")), strict=True):
        for name in names:
            panel.plot(scenes, [float(row[name]) for row in rows], marker=".", label=name.replace("_miou", " prompts"))
        panel.set_xlabel("scenes seen")
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0].set_title("losses")
    panels[1].set_title(f"mIoU, {EVALUATED} held-out scenes, single mask")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_training"))
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=Kind.width, help="of the image encoder, a multiple of 64")
    parser.add_argument("--depth", type=int, default=Kind.depth, help="blocks of the image encoder")
    parser.add_argument("--seed", type=int, default=Kind.seed)
    options = parser.parse_args()
    kind = Kind(options.width, options.depth, options.seed)
    student = train(options.out, options.steps, options.batch, options.device, kind)
    draw_curve(options.out / "log.csv", options.out / "curve.png")
    weights = {name: tensor.half().contiguous().cpu() for name, tensor in student.sam.state_dict().items()}
    save_file(weights, options.out / "demo_sam.safetensors")
    student.sam.load_state_dict(weights)
    box, point = evaluate(student, FINALLY_EVALUATED)
    print(f"float16, {FINALLY_EVALUATED} held-out scenes: box mIoU {box:.4f}, one-point mIoU {point:.4f}")


if __name__ == "__main__":
    main()
